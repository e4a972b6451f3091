//! `ebb image verify`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use sigs::Root;
use sigs::seal::{BaseStatement, PublicKey, SealKind, Sealed, TrustedKeys};

use crate::digest::digest_file;
use crate::ebb::Context;
use crate::exit::{Code, Exit, io_exit};

#[derive(Debug, Args)]
pub(in crate::ebb) struct Verify {
    /// The sealed file
    #[arg(value_name = "IMG.manifest")]
    manifest: PathBuf,
    /// The image file it must fit
    #[arg(value_name = "IMG.zdi")]
    image: PathBuf,
    /// A public key that may have sealed it; may be repeated
    #[arg(long = "trusted", value_name = "FILE.pub", required = true)]
    trusted: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    name: String,
    root: Root,
    verdict: &'static str,
}

impl Verify {
    pub(super) fn run(self, context: &Context) -> Result<(), Exit> {
        let read =
            |path: &PathBuf| std::fs::read(path).map_err(|error| io_exit(format!("read {}", path.display()), &error));
        let mut keys = Vec::new();
        for path in &self.trusted {
            let pem = String::from_utf8_lossy(&read(path)?).into_owned();
            let key = PublicKey::from_pem(&pem);
            keys.push(key.map_err(|error| Exit::new(Code::Usage, format!("{}: {error}", path.display())))?);
        }
        let bad = |why: String| Exit::new(Code::Verification, format!("{}: {why}", self.manifest.display()));
        let sealed = Sealed::parse(&read(&self.manifest)?).map_err(|error| bad(crate::exit::chain(&error)))?;
        let text =
            sealed.verify(SealKind::Base, &TrustedKeys::new(keys)).map_err(|error| bad(crate::exit::chain(&error)))?;
        let statement: BaseStatement = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
        let (digest, bytes) =
            digest_file(&self.image).map_err(|error| io_exit(format!("read {}", self.image.display()), &error))?;
        if (digest, bytes) != (statement.zdi, statement.zdi_bytes) {
            return Err(bad(format!(
                "it seals a file of {} bytes with the digest {}, {} has {bytes} bytes with the digest {digest}",
                statement.zdi_bytes,
                statement.zdi,
                self.image.display()
            )));
        }
        let report = Report { name: statement.name, root: statement.target_root, verdict: "sealed" };
        context.output.data(&report, |report| format!("{}: sealed, root {}", report.name, report.root))
    }
}
