//! `imagezip diff`: the delta image from one state to another.

use std::path::PathBuf;

use clap::Args;

use crate::rewrite::{self, Storing};
use crate::session::Session;

#[derive(Debug, Args)]
#[command(after_help = "\
A and B may be delta images. Each finds its bases among the files named here by their roots, so the order does not
matter and an image that nobody needs does no harm:

  imagezip diff base.zdi monday.zdi --out d.zdi          monday.zdi is a delta against base.zdi: a delta again
  imagezip diff monday.zdi friday.zdi --with base.zdi --out d.zdi
                                                         from Monday's state to Friday's
  imagezip restore base.zdi monday.zdi d.zdi --to TARGET")]
pub(crate) struct Arguments {
    /// The state to begin from: an image, or its signature
    #[arg(value_name = "A.zdi|A.sig")]
    from: PathBuf,
    /// The state to end with
    #[arg(value_name = "B.zdi")]
    to: PathBuf,
    #[command(flatten)]
    storing: Storing,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> anyhow::Result<()> {
    let against = std::slice::from_ref(&arguments.from);
    rewrite::run(session, &arguments.to, &[], against, &arguments.storing)
}
