//! Saying that something is meant which cannot be undone: the experiment's name once more, and the password.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use boss_api::names::ExperimentName;
use boss_api::user::Confirmation;
use clap::Args;

use crate::ebb::password::Password;
use crate::exit::{Code, Exit, io_exit};

/// The longest line that is read; names are shorter.
const MAX_LINE: u64 = 256;

#[derive(Clone, Debug, Args)]
pub(super) struct Confirm {
    /// The experiment's name once more, without its project. Without it the terminal is asked
    #[arg(long, value_name = "EID")]
    typed: Option<String>,
    #[command(flatten)]
    password: Password,
}

impl Confirm {
    /// Asks for what was not given.
    pub(super) fn ask(&self, name: &ExperimentName, what: &str) -> Result<Confirmation, Exit> {
        let typed = match &self.typed {
            Some(typed) => typed.clone(),
            None if io::stdin().is_terminal() => type_it(&format!("{what}\nType {} to confirm: ", name.eid))?,
            None => {
                return Err(Exit::new(Code::Usage, "there is no terminal to confirm on")
                    .next("give the experiment's name with --typed, and the password with --password-file"));
            }
        };
        Ok(Confirmation { typed, password: self.password.read("Your password: ")? })
    }
}

fn type_it(prompt: &str) -> Result<String, Exit> {
    let failed = |error: &io::Error| io_exit("ask on the terminal", error);
    let mut stderr = io::stderr();
    write!(stderr, "{prompt}").and_then(|()| stderr.flush()).map_err(|error| failed(&error))?;
    let mut line = String::new();
    io::stdin().lock().take(MAX_LINE).read_line(&mut line).map_err(|error| failed(&error))?;
    Ok(line.trim().to_owned())
}
