//! `ebb image`

use std::path::Path;

use clap::{Args, Subcommand};
use sigs::seal::SigningKey;

use super::Context;
use crate::exit::{Code, Exit, io_exit};

mod create;
mod list;
mod retire;
mod seal;
mod show;
mod verify;

#[derive(Debug, Subcommand)]
pub(super) enum Image {
    /// Make a base image of a disk, seal it, upload it and register it
    Create(create::Create),
    /// List images
    List,
    /// Show an image and its versions
    Show(Named),
    /// Retire a version: it is not loaded any more; what was saved against it still restores
    Retire(retire::Retire),
    /// Seal an image file with a key; nothing is uploaded
    Seal(seal::Seal),
    /// Check that a sealed file fits an image file and was sealed by a key
    Verify(verify::Verify),
}

/// An image, by name.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The image
    name: boss_api::names::Name,
    /// The project; system has the site's own
    #[arg(long, value_name = "PID", default_value = "system")]
    project: boss_api::names::Name,
}

impl Image {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        match self {
            Self::Create(create) => create.run(context).await,
            Self::List => list::run(context).await,
            Self::Show(named) => show::run(context, &named).await,
            Self::Retire(retire) => retire.run(context).await,
            Self::Seal(seal) => seal.run(context),
            Self::Verify(verify) => verify.run(context),
        }
    }
}

/// Reads the secret key that seals base images.
fn read_key(path: &Path) -> Result<SigningKey, Exit> {
    let pem = std::fs::read_to_string(path).map_err(|error| io_exit(format!("read {}", path.display()), &error))?;
    SigningKey::from_pem(&pem).map_err(|error| {
        Exit::new(Code::Usage, format!("{}: {error}", path.display())).next("`ebb key new --out FILE` makes a key pair")
    })
}
