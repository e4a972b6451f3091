//! `ebb login`

use boss_api::client::UserClient;
use boss_api::user::LoginRequest;
use clap::Args;

use super::Context;
use super::output::moment;
use super::password::Password;
use crate::exit::{Code, Exit};

#[derive(Debug, Args)]
pub(super) struct Login {
    /// Who signs in
    #[arg(long, value_name = "NAME")]
    user: String,
    #[command(flatten)]
    password: Password,
}

impl Login {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        let server = context.session.server()?;
        let client = UserClient::new(&server, None)?;
        let password = self.password.read(&format!("Password of {} at {server}: ", self.user))?;
        let answer = client.login(&LoginRequest { user: self.user.clone(), password }).await.map_err(|error| {
            // Without a token "sign in first" would be no help here.
            let not_signed_in = error.code() == Some(boss_api::ErrorCode::NotSignedIn);
            let text = error.to_string();
            if not_signed_in { Exit::new(Code::NotAllowed, text) } else { Exit::from(error) }
        })?;
        let path = context.session.keep(&server, &self.user, &answer.token)?;
        let until = moment(answer.expires_at);
        context.output.say(format!("signed in as {} at {server} until {until}", self.user));
        context.output.say(format!("the token is in {}", path.display()));
        Ok(())
    }
}
