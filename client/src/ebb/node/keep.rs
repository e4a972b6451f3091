//! `ebb node keep`

use boss_api::names::Name;
use boss_api::user::KeepNode;
use clap::Args;
use time::macros::{format_description, time};
use time::{Date, OffsetDateTime};

use super::show::describe;
use crate::ebb::Context;
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(in crate::ebb) struct Keep {
    /// The machine
    #[arg(value_name = "NODE")]
    name: Name,
    /// Until the end of this day, in UTC. Nothing happens when it is over
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = end_of)]
    until: OffsetDateTime,
    /// Why
    #[arg(long)]
    note: String,
}

fn end_of(day: &str) -> Result<OffsetDateTime, time::error::Parse> {
    Ok(Date::parse(day, format_description!("[year]-[month]-[day]"))?.with_time(time!(23:59:59)).assume_utc())
}

impl Keep {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        let request = KeepNode { until: self.until, note: self.note };
        let node = context.session.client()?.keep_node(&self.name, &request).await?;
        context.output.data(&node, describe)
    }
}
