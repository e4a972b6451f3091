//! A password: from a file, from stdin, or from the terminal without showing it. Never from an argument.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::exit::{Code, Exit, io_exit};

/// The longest password that boss takes.
const MAX_PASSWORD_BYTES: usize = 1024;

#[derive(Clone, Debug, Args)]
pub(super) struct Password {
    /// File whose first line is the password; - is stdin. Without it the terminal is asked
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Password {
    /// Reads it.
    pub(super) fn read(&self, prompt: &str) -> Result<String, Exit> {
        match &self.password_file {
            Some(path) if path == Path::new("-") => first_line("stdin", io::stdin().lock()),
            Some(path) => {
                let name = path.display().to_string();
                let file = File::open(path).map_err(|error| io_exit(format!("read {name}"), &error))?;
                first_line(&name, file)
            }
            None if io::stdin().is_terminal() => ask(prompt),
            None => Err(Exit::new(Code::Usage, "there is no terminal to ask for the password on")
                .next("name a file with --password-file, or - for stdin")),
        }
    }
}

fn first_line(name: &str, source: impl Read) -> Result<String, Exit> {
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_PASSWORD_BYTES + 2).unwrap_or(u64::MAX);
    source.take(most).read_to_end(&mut bytes).map_err(|error| io_exit(format!("read {name}"), &error))?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let refuse = |why: &str| Exit::new(Code::Usage, format!("the first line of {name} is no password: {why}"));
    if line.is_empty() {
        return Err(refuse("it is empty"));
    }
    if line.len() > MAX_PASSWORD_BYTES {
        return Err(refuse("it has more than 1024 bytes"));
    }
    String::from_utf8(line.to_vec()).map_err(|_| refuse("it is not UTF-8"))
}

/// The terminal with echo off, put back as it was when dropped.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        // Signals are off, too: a Ctrl-C has to pass here, so that the terminal is put back.
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // There is nobody to tell when the terminal went away.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

fn ask(prompt: &str) -> Result<String, Exit> {
    let failed = |error: &io::Error| io_exit("ask for the password on the terminal", error);
    let mut stderr = io::stderr();
    write!(stderr, "{prompt}").and_then(|()| stderr.flush()).map_err(|error| failed(&error))?;
    let line = {
        let _quiet = Quiet::begin().map_err(|error| failed(&error))?;
        read_keys()
    };
    drop(writeln!(stderr));
    first_line("the terminal", line?.as_slice())
}

fn read_keys() -> Result<Vec<u8>, Exit> {
    let mut line = Vec::new();
    for byte in io::stdin().lock().bytes() {
        match byte.map_err(|error| io_exit("read the terminal", &error))? {
            b'\n' | b'\r' | 4 => break,
            3 => return Err(Exit::new(Code::Interrupted, "interrupted, nothing was done")),
            8 | 127 => {
                // One character back: its bytes down to the one that begins it.
                while line.pop().is_some_and(|byte: u8| byte & 0xc0 == 0x80) {}
            }
            byte if line.len() <= MAX_PASSWORD_BYTES => line.push(byte),
            _ => {}
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line() {
        assert_eq!(first_line("f", &b"secret\r\nrest"[..]).unwrap(), "secret");
        assert_eq!(first_line("f", &b" s p "[..]).unwrap(), " s p ");
        assert_eq!(first_line("f", &b"\n"[..]).unwrap_err().code(), Code::Usage);
        assert_eq!(first_line("f", &[b'x'; 1025][..]).unwrap_err().code(), Code::Usage);
        assert_eq!(first_line("f", &[0xff][..]).unwrap_err().code(), Code::Usage);
    }
}
