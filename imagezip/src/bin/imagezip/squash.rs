//! `imagezip squash`: a delta image with its bases into one full image.

use std::path::PathBuf;

use clap::Args;

use crate::exit::Usage;
use crate::rewrite::{self, Storing};
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "\
The full image has the root of the delta image, and holds nothing of its bases that the delta no longer uses:

  imagezip squash base.zdi today.zdi --out full.zdi
  imagezip squash today.zdi --with base.zdi --with monday.zdi --out full.zdi")]
pub(crate) struct Arguments {
    /// The image; of a delta image its bases first, then the delta
    #[arg(required = true, value_name = "IMG.zdi")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    storing: Storing,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    let (image, bases) = arguments.images.split_last().ok_or_else(|| Usage("name an image".to_owned()))?;
    rewrite::run(session, image, &bases.iter().collect::<Vec<_>>(), &[], &arguments.storing)
}
