//! `ebb setting`

use boss_api::user::{ChangeSetting, SettingView};
use clap::Subcommand;

use super::Context;
use super::output::table;
use crate::exit::Exit;

#[derive(Debug, Subcommand)]
pub(super) enum Setting {
    /// List the settings, their values and defaults
    List,
    /// Change a setting
    Set {
        /// Such as swap/stall_timeout_s
        name: String,
        /// The new value
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Put a setting back to its default
    Unset {
        /// Such as swap/stall_timeout_s
        name: String,
    },
}

impl Setting {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        let client = context.session.client()?;
        match self {
            Self::List => {
                let settings = client.settings().await?;
                context.output.data(&settings, |settings| {
                    let row = |setting: &SettingView| {
                        [setting.name.clone(), setting.value.clone(), setting.default.clone(), setting.help.clone()]
                    };
                    table(["NAME", "VALUE", "DEFAULT", "WHAT IT DOES"], settings.iter().map(row).collect())
                })
            }
            Self::Set { name, value } => {
                let setting = client.change_setting(&name, &ChangeSetting { value: Some(value) }).await?;
                context.output.data(&setting, describe)
            }
            Self::Unset { name } => {
                let setting = client.change_setting(&name, &ChangeSetting { value: None }).await?;
                context.output.data(&setting, describe)
            }
        }
    }
}

fn describe(setting: &SettingView) -> String {
    format!("{} = {}", setting.name, setting.value)
}
