//! `ebb key`

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;
use sigs::seal::{KeyId, SigningKey};

use super::Context;
use crate::exit::{Code, Exit, io_exit};

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make a key pair: FILE is the secret half, FILE.pub the public one
    New {
        /// Where the secret half goes; nothing is overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Debug, Serialize)]
struct Made {
    key: KeyId,
    secret: PathBuf,
    public: PathBuf,
}

impl Key {
    pub(super) fn run(self, context: &Context) -> Result<(), Exit> {
        let Self::New { out } = self;
        let made = make(&out)?;
        context.output.data(&made, |made| made.key.to_string())?;
        let public = made.public.display();
        context
            .output
            .say(format!("keep {} secret; boss trusts it after `boss admin key add {public}`", out.display()));
        Ok(())
    }
}

fn make(secret: &Path) -> Result<Made, Exit> {
    let mut public = secret.as_os_str().to_owned();
    public.push(".pub");
    let public = PathBuf::from(public);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Exit::new(Code::Failed, format!("the system gives no random bytes: {error}")))?;
    let key = SigningKey::from_seed(&seed);
    let bad_key = |error: sigs::seal::SealError| Exit::because(Code::Failed, &error);
    let (secret_pem, public_pem) = (key.to_pem().map_err(bad_key)?, key.public().to_pem().map_err(bad_key)?);
    write_new(secret, 0o600, &secret_pem)?;
    if let Err(exit) = write_new(&public, 0o644, &public_pem) {
        // Half a pair is of no use; the error that is returned says why there is none.
        drop(fs::remove_file(secret));
        return Err(exit);
    }
    Ok(Made { key: key.public().id(), secret: secret.to_owned(), public })
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Exit> {
    let open = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = open.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Exit::new(Code::WrongState, format!("{} exists and is not overwritten", path.display()))
                .next("name another file, or move it away")
        }
        _ => io_exit(format!("write {}", path.display()), &error),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use sigs::seal::PublicKey;

    use super::*;

    #[test]
    fn a_pair_fits_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let made = make(&path).unwrap();
        let secret = SigningKey::from_pem(&fs::read_to_string(&path).unwrap()).unwrap();
        let public = PublicKey::from_pem(&fs::read_to_string(&made.public).unwrap()).unwrap();
        assert_eq!(secret.public(), public);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(make(&path).unwrap_err().code(), Code::WrongState);

        let other = folder.path().join("other");
        fs::write(folder.path().join("other.pub"), "mine").unwrap();
        assert_eq!(make(&other).unwrap_err().code(), Code::WrongState);
        assert!(!other.exists());
    }
}
