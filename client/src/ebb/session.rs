//! Which boss, and as whom: addresses and tokens from options, environment and files.
//!
//! A token file that `ebb login` writes names the boss it is for, and is never sent to another. A file with nothing
//! but a token, made by hand, goes to whichever boss is named.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use boss_api::client::UserClient;
use serde::{Deserialize, Serialize};

use crate::exit::{Code, Exit, io_exit};

/// The longest file of ours that is read.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// What the options say.
#[derive(Debug)]
pub(super) struct Session {
    server: Option<String>,
    token_file: Option<PathBuf>,
}

/// What `ebb login` keeps.
#[derive(Serialize, Deserialize)]
struct Kept {
    server: String,
    user: String,
    token: String,
}

/// `config.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    server: Option<String>,
}

impl Session {
    pub(super) const fn new(server: Option<String>, token_file: Option<PathBuf>) -> Self {
        Self { server, token_file }
    }

    /// Returns the address to sign in at.
    pub(super) fn server(&self) -> Result<String, Exit> {
        if let Some(server) = self.named_server()? {
            return Ok(server);
        }
        match self.kept()? {
            Some(Token::Kept(kept)) => Ok(kept.server),
            Some(Token::Bare(_)) | None => Err(no_server()),
        }
    }

    /// Returns a client that speaks for the user.
    pub(super) fn client(&self) -> Result<UserClient, Exit> {
        self.reach().map(|(_, client)| client)
    }

    /// Returns the options that have another process reach the same boss as the same user, wherever it runs.
    pub(super) fn options(&self) -> Vec<OsString> {
        let mut options = Vec::new();
        if let Some(server) = &self.server {
            options.extend(["--server".into(), server.into()]);
        }
        if let Some(path) = &self.token_file {
            // One that cannot be found is told by whoever looks for it.
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            options.extend(["--token-file".into(), path.into()]);
        }
        options
    }

    /// Returns the address of boss, and a client that speaks for the user there.
    pub(super) fn reach(&self) -> Result<(String, UserClient), Exit> {
        let named = self.named_server()?;
        let path = self.token_path()?;
        let signed_out = |server: &str| {
            Exit::new(Code::NotAllowed, format!("nobody is signed in at {server}: no token in {}", path.display()))
                .next(format!("sign in with `ebb login --server {server} --user NAME`"))
        };
        let (server, token) = match (named, self.kept()?) {
            (Some(server), None) => return Err(signed_out(&server)),
            (None, None | Some(Token::Bare(_))) => return Err(no_server()),
            (Some(server), Some(Token::Bare(token))) => (server, token),
            (None, Some(Token::Kept(kept))) => (kept.server, kept.token),
            (Some(server), Some(Token::Kept(kept))) => {
                if !same_server(&server, &kept.server) {
                    return Err(Exit::new(
                        Code::NotAllowed,
                        format!("the token in {} is for {}, not for {server}", path.display(), kept.server),
                    )
                    .next(format!("sign in with `ebb login --server {server} --user NAME`")));
                }
                (server, kept.token)
            }
        };
        let client = UserClient::new(&server, Some(&token))?;
        Ok((server, client))
    }

    /// Keeps a token, readable by nobody else. Returns where.
    pub(super) fn keep(&self, server: &str, user: &str, token: &str) -> Result<PathBuf, Exit> {
        let path = self.token_path()?;
        let failed = |error: &std::io::Error| io_exit(format!("keep the token in {}", path.display()), error);
        let folder = folder_of(&path);
        if self.token_file.is_none() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| failed(&error))?;
        }
        let kept = Kept { server: server.to_owned(), user: user.to_owned(), token: token.to_owned() };
        let json = serde_json::to_vec(&kept).map_err(|error| Exit::because(Code::Failed, &error))?;
        let mut draft = tempfile::Builder::new()
            .prefix(".ebb-")
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(folder)
            .map_err(|error| failed(&error))?;
        draft.write_all(&json).and_then(|()| draft.as_file().sync_all()).map_err(|error| failed(&error))?;
        draft.persist(&path).map_err(|error| failed(&error.error))?;
        Ok(path)
    }

    /// Forgets the token. Returns whether there was one.
    pub(super) fn forget(&self) -> Result<bool, Exit> {
        let path = self.token_path()?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_exit(format!("remove {}", path.display()), &error)),
        }
    }

    fn named_server(&self) -> Result<Option<String>, Exit> {
        if self.server.is_some() {
            return Ok(self.server.clone());
        }
        let Some(folder) = config_folder() else { return Ok(None) };
        let path = folder.join("config.toml");
        let Some(text) = read_small(&path)? else { return Ok(None) };
        let config: Config = toml::from_str(&text).map_err(|error| {
            Exit::new(Code::Usage, format!("{} is not right: {}", path.display(), error.message()))
                .next("it may say: server = \"http://127.0.0.1:4700\"")
        })?;
        Ok(config.server)
    }

    fn token_path(&self) -> Result<PathBuf, Exit> {
        if let Some(path) = &self.token_file {
            return Ok(path.clone());
        }
        let folder = config_folder().ok_or_else(|| {
            Exit::new(
                Code::Usage,
                "there is no place for a token: neither XDG_CONFIG_HOME nor HOME is an absolute path",
            )
            .next("name a file with --token-file or EBB_TOKEN_FILE")
        })?;
        Ok(folder.join("token"))
    }

    fn kept(&self) -> Result<Option<Token>, Exit> {
        let path = self.token_path()?;
        let Some(text) = read_private(&path)? else { return Ok(None) };
        let text = text.trim();
        if !text.starts_with('{') {
            return Ok(Some(Token::Bare(text.to_owned())));
        }
        match serde_json::from_str(text) {
            Ok(kept) => Ok(Some(Token::Kept(kept))),
            Err(_) => Err(Exit::new(Code::Usage, format!("{} is not a token file of ebb", path.display()))
                .next("remove it and sign in with `ebb login`")),
        }
    }
}

enum Token {
    Kept(Kept),
    Bare(String),
}

fn no_server() -> Exit {
    Exit::new(Code::Usage, "no boss is named")
        .next("name one with --server URL or EBB_SERVER, or sign in once with `ebb login --server URL --user NAME`")
}

fn same_server(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

fn config_folder() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(config.join("ebb"))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Reads a small text file, or nothing when there is none.
fn read_small(path: &Path) -> Result<Option<String>, Exit> {
    match File::open(path) {
        Ok(file) => read_text(path, file).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_exit(format!("read {}", path.display()), &error)),
    }
}

/// Reads a small secret text file. One that others can read is refused: it may be known already.
fn read_private(path: &Path) -> Result<Option<String>, Exit> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_exit(format!("read {}", path.display()), &error)),
    };
    let mode =
        file.metadata().map_err(|error| io_exit(format!("read {}", path.display()), &error))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Exit::new(Code::Usage, format!("{} holds a secret and others may read it", path.display())).next(
            format!("run `chmod 600 {}`, or sign out and in again if somebody may have read it", path.display()),
        ));
    }
    read_text(path, file).map(Some)
}

fn read_text(path: &Path, file: File) -> Result<String, Exit> {
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES).read_to_string(&mut text);
    read.map_err(|error| io_exit(format!("read {}", path.display()), &error))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(folder: &Path, server: Option<&str>) -> Session {
        Session::new(server.map(str::to_owned), Some(folder.join("token")))
    }

    #[test]
    fn a_token_is_for_one_boss_and_for_nobody_else_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let here = session(folder.path(), Some("http://127.0.0.1:1"));
        let path = here.keep("http://127.0.0.1:1/", "alice", "t0ken").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(here.client().is_ok());
        let elsewhere = session(folder.path(), Some("http://127.0.0.1:2")).client().unwrap_err();
        assert_eq!(elsewhere.code(), Code::NotAllowed);
        assert!(!elsewhere.to_string().contains("t0ken"));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(here.client().unwrap_err().code(), Code::Usage);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(here.forget().unwrap());
        assert!(!here.forget().unwrap());
        assert_eq!(here.client().unwrap_err().code(), Code::NotAllowed);
    }

    #[test]
    fn a_bare_token_needs_a_named_boss() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "t0ken\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(session(folder.path(), Some("http://127.0.0.1:1")).client().is_ok());
        fs::write(&path, "{nonsense").unwrap();
        assert_eq!(session(folder.path(), Some("http://127.0.0.1:1")).client().unwrap_err().code(), Code::Usage);
    }
}
