//! `ebb logout`

use super::Context;
use crate::exit::Exit;

/// Ends the token at boss and removes it here. It is removed here even when boss cannot be asked, which is said.
pub(super) async fn run(context: &Context) -> Result<(), Exit> {
    let told = match context.session.client() {
        Ok(client) => client.logout().await.map_err(Exit::from),
        Err(exit) => Err(exit),
    };
    if !context.session.forget()? {
        context.output.say("nobody was signed in");
        return Ok(());
    }
    if let Err(exit) = told {
        context.output.say(format!("the token was removed here, but boss was not told: {exit}"));
    }
    Ok(())
}
