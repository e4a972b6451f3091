//! `imagezip rebase`: the state in an image as a delta against another base.

use std::path::PathBuf;

use clap::Args;

use crate::exit::Usage;
use crate::rewrite::{self, Storing};
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "\
The new delta image has the root of the old one, and needs only what it was put onto:

  imagezip rebase base.zdi today.zdi --onto other.zdi --out d.zdi
  imagezip rebase base.zdi today.zdi --onto other.sig --out d.zdi
  imagezip restore other.zdi d.zdi --to TARGET")]
pub(crate) struct Arguments {
    /// The image; of a delta image its bases first, then the delta
    #[arg(required = true, value_name = "IMG.zdi")]
    images: Vec<PathBuf>,
    /// The new base, an image or its signature; may be given several times
    #[arg(long, required = true, value_name = "OTHER.zdi|OTHER.sig")]
    onto: Vec<PathBuf>,
    #[command(flatten)]
    storing: Storing,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    let (image, bases) = arguments.images.split_last().ok_or_else(|| Usage("name an image".to_owned()))?;
    rewrite::run(session, image, &bases.iter().collect::<Vec<_>>(), &arguments.onto, &arguments.storing)
}
