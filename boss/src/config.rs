//! What a running boss was told: flags over `EBB_*` variables over a TOML file. Read once, before anything is touched.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Everything boss was told, resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where people and their programs connect.
    pub listen: SocketAddr,
    /// Where agents connect: a loopback address.
    pub agent_listen: SocketAddr,
    /// The database.
    pub database_url: DatabaseUrl,
    /// The state directory: keys, store, runtime files. One boss at a time.
    pub state: PathBuf,
    /// How people reach the site, such as `https://boss.example.net`; decides whether cookies are `Secure`.
    pub base_url: String,
    /// How agents reach boss.
    pub agent_url: String,
    /// The agent's program, for nodes that are local processes.
    pub agent_program: PathBuf,
}

/// The address of the database. It may hold a password, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Wraps an address.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the address with its password, for the one place that connects.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(..)")
    }
}

/// Why boss could not be configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read the configuration file {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the configuration file {path} is refused")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: toml::de::Error,
    },
    /// Something is missing or contradicts itself.
    #[error("{0}")]
    Refused(String),
}

/// What one source says; what is absent is left to the next.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Told {
    /// See [`Config::listen`].
    pub listen: Option<SocketAddr>,
    /// See [`Config::agent_listen`].
    pub agent_listen: Option<SocketAddr>,
    /// See [`Config::database_url`].
    pub database_url: Option<DatabaseUrlText>,
    /// See [`Config::state`].
    pub state: Option<PathBuf>,
    /// See [`Config::base_url`].
    pub base_url: Option<String>,
    /// See [`Config::agent_program`].
    pub agent_program: Option<PathBuf>,
}

/// [`DatabaseUrl`] as read.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrlText(String);

impl fmt::Debug for DatabaseUrlText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrlText(..)")
    }
}

impl std::str::FromStr for DatabaseUrlText {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

impl Told {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_path_buf(), source })
    }

    /// Returns this, with what it does not say taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            agent_listen: self.agent_listen.or(other.agent_listen),
            database_url: self.database_url.or(other.database_url),
            state: self.state.or(other.state),
            base_url: self.base_url.or(other.base_url),
            agent_program: self.agent_program.or(other.agent_program),
        }
    }

    /// Returns where the database is.
    ///
    /// # Errors
    /// [`ConfigError::Refused`] when nobody said.
    pub fn database(&self) -> Result<DatabaseUrl, ConfigError> {
        self.database_url.clone().map(|url| DatabaseUrl(url.0)).ok_or_else(|| {
            ConfigError::Refused(
                "no database is given: set EBB_DATABASE_URL, --database-url or database-url in the file".into(),
            )
        })
    }

    /// Fills in defaults and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError::Refused`] in words.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let refuse = |text: String| Err(ConfigError::Refused(text));
        let database_url = self.database()?;
        let Some(state) = self.state else {
            return refuse("no state directory is given: set EBB_STATE, --state or state in the file".into());
        };
        let state = std::path::absolute(&state).map_err(|source| ConfigError::Read { path: state.clone(), source })?;
        let listen = self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 4710)));
        let agent_listen = self.agent_listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 4711)));
        if !agent_listen.ip().is_loopback() {
            return refuse(format!(
                "agents may only connect over a loopback address until there is TLS, and {agent_listen} is not one"
            ));
        }
        let agent_program = match self.agent_program {
            Some(path) => std::path::absolute(&path).map_err(|source| ConfigError::Read { path, source })?,
            None => beside_this_program("node-agent")?,
        };
        let base_url = self.base_url.unwrap_or_else(|| format!("http://{listen}"));
        let agent_url = format!("http://{agent_listen}");
        Ok(Config { listen, agent_listen, database_url, state, base_url, agent_url, agent_program })
    }
}

fn beside_this_program(name: &str) -> Result<PathBuf, ConfigError> {
    let own =
        std::env::current_exe().map_err(|source| ConfigError::Read { path: PathBuf::from("this program"), source })?;
    Ok(own.parent().unwrap_or(Path::new("/")).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Told {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_first_source_that_says_it_wins() {
        let flags = told("listen = '127.0.0.1:1'");
        let file = told("listen = '127.0.0.1:2'\nstate = '/s'\ndatabase-url = 'postgres://u:secret@h/d'");
        let config = flags.or(file).resolve().unwrap();
        assert_eq!(config.listen.port(), 1);
        assert_eq!(config.state, Path::new("/s"));
        assert_eq!(config.base_url, "http://127.0.0.1:1");
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn what_is_missing_or_unsafe_is_said() {
        let refused = |text: &str| told(text).resolve().unwrap_err().to_string();
        assert!(refused("state = '/s'").contains("EBB_DATABASE_URL"));
        assert!(refused("database-url = 'x'").contains("EBB_STATE"));
        assert!(refused("database-url = 'x'\nstate = '/s'\nagent-listen = '0.0.0.0:1'").contains("loopback"));
        assert!(toml::from_str::<Told>("colour = 'red'").is_err());
    }
}
