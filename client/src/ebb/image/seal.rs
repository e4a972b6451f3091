//! `ebb image seal`

use std::io::Write as _;
use std::path::{Path, PathBuf};

use boss_api::names::Name;
use clap::Args;
use imagezip::package::Draft;
use serde::Serialize;
use sigs::manifest::ImageKind;
use sigs::seal::{BaseStatement, KeyId, SealKind, Sealed, SigningKey};
use sigs::zdi::Container;
use sigs::{ByteLen, Digest, FileSource, Root, Signature};

use super::read_key;
use crate::digest::digest_file;
use crate::ebb::Context;
use crate::exit::{Code, Exit, io_exit};

#[derive(Debug, Args)]
pub(in crate::ebb) struct Seal {
    /// The image file
    #[arg(value_name = "IMG.zdi")]
    image: PathBuf,
    /// Its signature file
    #[arg(value_name = "IMG.sig")]
    signature: PathBuf,
    /// The name it is sealed for
    #[arg(long)]
    name: Name,
    /// The secret key, PKCS#8 PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the sealed file goes
    #[arg(long, value_name = "FILE.manifest")]
    out: PathBuf,
}

#[derive(Debug, Serialize)]
struct Report {
    manifest: PathBuf,
    zdi: Digest,
    root: Root,
    key: KeyId,
}

impl Seal {
    pub(super) fn run(self, context: &Context) -> Result<(), Exit> {
        let key = read_key(&self.key)?;
        let (statement, sealed) = seal(&self.name, &self.image, &self.signature, &key)?;
        let failed = |error: &dyn std::error::Error| Exit::because(Code::Failed, error);
        let mut draft = Draft::create(&self.out).map_err(|error| failed(&error))?;
        draft
            .write_all(&sealed.to_bytes())
            .map_err(|error| io_exit(format!("write {}", self.out.display()), &error))?;
        draft.publish().map_err(|error| failed(&error))?;
        let BaseStatement { zdi, target_root: root, .. } = statement;
        let report = Report { manifest: self.out, zdi, root, key: key.public().id() };
        context.output.data(&report, |report| format!("{} seals root {}", report.manifest.display(), report.root))
    }
}

/// Makes the statement of a full image and its signature, and seals it.
pub(super) fn seal(
    name: &Name,
    image: &Path,
    signature: &Path,
    key: &SigningKey,
) -> Result<(BaseStatement, Sealed), Exit> {
    let refuse = |path: &Path, why: String| Exit::new(Code::Verification, format!("{}: {why}", path.display()));
    let open =
        |path: &Path| FileSource::open(path).map_err(|error| io_exit(format!("open {}", path.display()), &error));
    let container = Container::open(open(image)?).map_err(|error| refuse(image, crate::exit::chain(&error)))?;
    let manifest = container.manifest();
    if manifest.kind != ImageKind::Full {
        return Err(refuse(image, format!("it is a {}, a base image is a full image", manifest.kind)));
    }
    if let Some(first) = manifest.bad_sectors().first() {
        let at = first.start;
        return Err(refuse(image, format!("it is incomplete: sectors could not be read, the first at offset {at}")));
    }
    let opened = Signature::open_trusted(open(signature)?, manifest.target_root);
    opened.map_err(|error| refuse(signature, crate::exit::chain(&error)))?;
    let text = String::from_utf8(container.contents().manifest.clone())
        .map_err(|_| refuse(image, "its manifest is not UTF-8".to_owned()))?;
    let digest = |path: &Path| -> Result<(Digest, ByteLen), Exit> {
        digest_file(path).map_err(|error| io_exit(format!("read {}", path.display()), &error))
    };
    let ((zdi, zdi_bytes), (sig, _)) = (digest(image)?, digest(signature)?);
    let statement = BaseStatement {
        name: name.to_string(),
        zdi,
        zdi_bytes,
        sig,
        target_root: manifest.target_root,
        manifest: text,
    };
    let json = serde_json::to_string(&statement).map_err(|error| Exit::because(Code::Failed, &error))?;
    Ok((statement, Sealed::sign(SealKind::Base, json, key)))
}
