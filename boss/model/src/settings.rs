//! The site's variables, in the manner of Emulab's: name, type, default, bounds, and what each does.

use std::time::Duration;

use boss_api::Name;
use boss_api::user::OnFailure;

/// A site variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Setting {
    /// The program that saves a disk.
    SwapCommand,
    /// The limit of one capture attempt.
    SwapCommandTimeout,
    /// The limit of no progress.
    SwapStallTimeout,
    /// What becomes of saved nodes when another could not be saved.
    SwapOnFailure,
    /// How often a transient failure is tried.
    SwapAttempts,
    /// The zstd level.
    SwapZstdLevel,
    /// How many disks are saved at once.
    SwapAtOnce,
    /// How fast images travel.
    SwapBytesPerSecond,
    /// How long the store keeps what nothing refers to.
    StoreGrace,
    /// What of the store's file system is kept back.
    StoreReserve,
    /// How long a boot may take.
    NodeBootTimeout,
    /// How long a shut-down may take.
    NodeShutdownTimeout,
    /// What a free machine holds.
    NodeDefaultImage,
}

/// Text that a setting does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} does not take {value:?}: {reason}")]
pub struct BadValue {
    /// The setting.
    pub name: &'static str,
    /// The text.
    pub value: String,
    /// Why not.
    pub reason: String,
}

impl Setting {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::SwapCommand,
        Self::SwapCommandTimeout,
        Self::SwapStallTimeout,
        Self::SwapOnFailure,
        Self::SwapAttempts,
        Self::SwapZstdLevel,
        Self::SwapAtOnce,
        Self::SwapBytesPerSecond,
        Self::StoreGrace,
        Self::StoreReserve,
        Self::NodeBootTimeout,
        Self::NodeShutdownTimeout,
        Self::NodeDefaultImage,
    ];

    /// Returns the setting of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|setting| setting.name() == name)
    }

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SwapCommand => "swap/command",
            Self::SwapCommandTimeout => "swap/command_timeout_s",
            Self::SwapStallTimeout => "swap/stall_timeout_s",
            Self::SwapOnFailure => "swap/on_failure",
            Self::SwapAttempts => "swap/attempts",
            Self::SwapZstdLevel => "swap/zstd_level",
            Self::SwapAtOnce => "swap/at_once",
            Self::SwapBytesPerSecond => "swap/bytes_per_second",
            Self::StoreGrace => "store/grace_days",
            Self::StoreReserve => "store/reserve_percent",
            Self::NodeBootTimeout => "node/boot_timeout_s",
            Self::NodeShutdownTimeout => "node/shutdown_timeout_s",
            Self::NodeDefaultImage => "node/default_image",
        }
    }

    /// Returns what is in force when nobody changed it.
    pub const fn default_text(self) -> &'static str {
        match self {
            Self::SwapCommand => "create-swapimage",
            Self::SwapCommandTimeout => "14400",
            Self::SwapStallTimeout => "300",
            Self::SwapOnFailure => "release-verified",
            Self::SwapAttempts | Self::SwapZstdLevel => "3",
            Self::SwapAtOnce => "8",
            Self::SwapBytesPerSecond => "0",
            Self::StoreGrace => "7",
            Self::StoreReserve => "2",
            Self::NodeBootTimeout => "600",
            Self::NodeShutdownTimeout => "120",
            Self::NodeDefaultImage => "",
        }
    }

    /// Returns what it does, for people.
    pub const fn help(self) -> &'static str {
        match self {
            Self::SwapCommand => {
                "The program a node runs to save a disk: a bare name, looked up beside the agent, or an absolute path. \
                 It is not given to a shell."
            }
            Self::SwapCommandTimeout => "The longest one attempt to save a disk may take, in seconds (1 to 604800).",
            Self::SwapStallTimeout => {
                "The longest time without a byte scanned or sent (or written, at swap-in) before an attempt is given \
                 up, in seconds (1 to 86400)."
            }
            Self::SwapOnFailure => {
                "When a node cannot be saved: release-verified frees those that are saved and holds the rest; \
                 hold-all holds all nodes of the experiment. Decided when a swap-out is asked for."
            }
            Self::SwapAttempts => {
                "How many attempts are made while failures can pass by themselves (1 to 20). Corruption is never \
                 tried again."
            }
            Self::SwapZstdLevel => "The zstd level of saved disks (1 to 19).",
            Self::SwapAtOnce => {
                "How many disks are read and sent at once, on the whole site (1 to 1000); the others wait for their \
                 turn, untouched."
            }
            Self::SwapBytesPerSecond => {
                "How many bytes of images travel between boss and all nodes in a second (1048576 to 10^12); 0: as fast \
                 as it goes."
            }
            Self::StoreGrace => {
                "For how many days the store keeps an object that nothing refers to, such as an upload that nobody \
                 registered (7 to 3650)."
            }
            Self::StoreReserve => {
                "The part of the store's file system that uploads and saved disks leave free, in percent (0 to 50), \
                 so that a full site can still be listed and pruned."
            }
            Self::NodeBootTimeout => "The longest a node may take to boot and report, in seconds (1 to 86400).",
            Self::NodeShutdownTimeout => {
                "The longest a node's own system may take to shut down before it is switched off, in seconds \
                 (1 to 86400)."
            }
            Self::NodeDefaultImage => {
                "The image of the system project that a node is overwritten with before it is free. Empty: its disks \
                 are zeroed."
            }
        }
    }

    /// Checks a text.
    ///
    /// # Errors
    /// [`BadValue`] says what it takes.
    pub fn check(self, text: &str) -> Result<(), BadValue> {
        Settings::default().with(self, text).map(drop)
    }
}

/// Returns the word for the setting and the database.
pub const fn on_failure_word(policy: OnFailure) -> &'static str {
    match policy {
        OnFailure::ReleaseVerified => "release-verified",
        OnFailure::HoldAll => "hold-all",
    }
}

/// Parses a word made by [`on_failure_word`].
///
/// # Errors
/// [`crate::UnknownState`] for another word.
pub fn parse_on_failure(word: &str) -> Result<OnFailure, crate::UnknownState> {
    [OnFailure::ReleaseVerified, OnFailure::HoldAll]
        .into_iter()
        .find(|policy| on_failure_word(*policy) == word)
        .ok_or_else(|| crate::UnknownState(word.into()))
}

/// All settings, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `swap/command`
    pub command: String,
    /// `swap/command_timeout_s`
    pub command_timeout: Duration,
    /// `swap/stall_timeout_s`
    pub stall_timeout: Duration,
    /// `swap/on_failure`
    pub on_failure: OnFailure,
    /// `swap/attempts`
    pub attempts: u32,
    /// `swap/zstd_level`
    pub zstd_level: i32,
    /// `swap/at_once`
    pub at_once: u32,
    /// `swap/bytes_per_second`; 0: as fast as it goes
    pub bytes_per_second: u64,
    /// `store/grace_days`
    pub store_grace: Duration,
    /// `store/reserve_percent`
    pub store_reserve: u64,
    /// `node/boot_timeout_s`
    pub boot_timeout: Duration,
    /// `node/shutdown_timeout_s`
    pub shutdown_timeout: Duration,
    /// `node/default_image`
    pub default_image: Option<Name>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            command: "create-swapimage".into(),
            command_timeout: Duration::from_secs(14_400),
            stall_timeout: Duration::from_secs(300),
            on_failure: OnFailure::ReleaseVerified,
            attempts: 3,
            zstd_level: 3,
            at_once: 8,
            bytes_per_second: 0,
            store_grace: days(7),
            store_reserve: 2,
            boot_timeout: Duration::from_secs(600),
            shutdown_timeout: Duration::from_secs(120),
            default_image: None,
        }
    }
}

impl Settings {
    /// Returns the defaults with these changes. Names that are not known any more are ignored.
    ///
    /// # Errors
    /// [`BadValue`] for a text that is not taken.
    pub fn of<'a>(changed: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, BadValue> {
        changed.into_iter().try_fold(Self::default(), |settings, (name, text)| match Setting::find(name) {
            Some(setting) => settings.with(setting, text),
            None => Ok(settings),
        })
    }

    fn with(mut self, setting: Setting, text: &str) -> Result<Self, BadValue> {
        let bad = |reason: String| BadValue { name: setting.name(), value: text.chars().take(200).collect(), reason };
        let number = |least: u64, most: u64| {
            text.parse::<u64>()
                .ok()
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| bad(format!("it is a whole number from {least} to {most}")))
        };
        let seconds = |most| number(1, most).map(Duration::from_secs);
        match setting {
            Setting::SwapCommand => self.command = command(text).map_err(bad)?,
            Setting::SwapCommandTimeout => self.command_timeout = seconds(604_800)?,
            Setting::SwapStallTimeout => self.stall_timeout = seconds(86_400)?,
            Setting::SwapOnFailure => {
                self.on_failure =
                    parse_on_failure(text).map_err(|_| bad("it is release-verified or hold-all".into()))?;
            }
            Setting::SwapAttempts => {
                self.attempts = u32::try_from(number(1, 20)?).map_err(|error| bad(error.to_string()))?;
            }
            Setting::SwapZstdLevel => {
                self.zstd_level = i32::try_from(number(1, 19)?).map_err(|error| bad(error.to_string()))?;
            }
            Setting::SwapAtOnce => {
                self.at_once = u32::try_from(number(1, 1000)?).map_err(|error| bad(error.to_string()))?;
            }
            Setting::SwapBytesPerSecond => {
                self.bytes_per_second = if text == "0" { 0 } else { number(1_048_576, 1_000_000_000_000)? };
            }
            Setting::StoreGrace => self.store_grace = days(number(7, 3650)?),
            Setting::StoreReserve => self.store_reserve = number(0, 50)?,
            Setting::NodeBootTimeout => self.boot_timeout = seconds(86_400)?,
            Setting::NodeShutdownTimeout => self.shutdown_timeout = seconds(86_400)?,
            Setting::NodeDefaultImage => {
                self.default_image = match text {
                    "" => None,
                    name => Some(Name::new(name).map_err(|error| bad(error.to_string()))?),
                }
            }
        }
        Ok(self)
    }
}

const fn days(number: u64) -> Duration {
    Duration::from_secs(number * 86_400)
}

/// A program to start, never a line for a shell.
fn command(text: &str) -> Result<String, String> {
    let rule = || Err("it is a bare program name or an absolute path, without arguments".to_owned());
    if text.is_empty() || text.len() > 1024 || text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return rule();
    }
    let absolute = text.starts_with('/') && !text.split('/').any(|part| part == "..");
    let bare = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !text.starts_with(['.', '-']);
    if absolute || bare { Ok(text.into()) } else { rule() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_the_defaults_are_the_defaults() {
        let all = Setting::ALL.iter().map(|setting| (setting.name(), setting.default_text()));
        assert_eq!(Settings::of(all).unwrap(), Settings::default());
    }

    #[test]
    fn each_setting_takes_what_it_should_and_changes_something() {
        let good = [
            ("swap/command", "/opt/site/save"),
            ("swap/command_timeout_s", "1"),
            ("swap/stall_timeout_s", "86400"),
            ("swap/on_failure", "hold-all"),
            ("swap/attempts", "20"),
            ("swap/zstd_level", "19"),
            ("swap/at_once", "1000"),
            ("swap/bytes_per_second", "1048576"),
            ("store/grace_days", "3650"),
            ("store/reserve_percent", "0"),
            ("node/boot_timeout_s", "5"),
            ("node/shutdown_timeout_s", "5"),
            ("node/default_image", "debian12"),
        ];
        assert_eq!(good.len(), Setting::ALL.len());
        for (name, text) in good {
            assert_ne!(Settings::of([(name, text)]).unwrap(), Settings::default(), "{name}");
        }
        let bad = [
            ("swap/command", "save; rm -rf /"),
            ("swap/command", "../save"),
            ("swap/command", "/a/../b"),
            ("swap/command", "a/b"),
            ("swap/command", ""),
            ("swap/command_timeout_s", "0"),
            ("swap/stall_timeout_s", "-1"),
            ("swap/stall_timeout_s", "86401"),
            ("swap/on_failure", "panic"),
            ("swap/attempts", "21"),
            ("swap/zstd_level", "20"),
            ("swap/zstd_level", "3.5"),
            ("swap/at_once", "0"),
            ("swap/bytes_per_second", "1000000"),
            ("store/grace_days", "6"),
            ("store/reserve_percent", "51"),
            ("node/boot_timeout_s", ""),
            ("node/shutdown_timeout_s", "1e3"),
            ("node/default_image", "../etc"),
        ];
        for (name, text) in bad {
            let refused = Settings::of([(name, text)]).unwrap_err();
            assert_eq!(refused.name, name, "{refused}");
        }
        assert_eq!(Settings::of([("gone/long_ago", "x")]).unwrap(), Settings::default());
    }
}
