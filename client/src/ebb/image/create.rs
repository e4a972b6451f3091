//! `ebb image create`

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use boss_api::client::{FileUpload, Stored, UserClient};
use boss_api::names::Name;
use boss_api::user::RegisterImage;
use clap::Args;
use imagezip::capture::CaptureOptions;
use imagezip::control::{Control, Progress, default_threads};
use sigs::BlockSize;

use super::read_key;
use super::seal::seal;
use super::show::describe;
use crate::ebb::Context;
use crate::ebb::output::size;
use crate::exit::{Code, Exit, io_exit};
use crate::imaging::{ImagingError, doubts, make_image};

/// How often progress is said.
const SAY: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(in crate::ebb) struct Create {
    /// The disk: a device or a file with the content of one
    source: PathBuf,
    /// The name of the image; if it exists this becomes its next version
    #[arg(long)]
    name: Name,
    /// The secret key that seals it, PKCS#8 PEM; boss must trust its public half
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The project; system has the site's own
    #[arg(long, value_name = "PID", default_value = "system")]
    project: Name,
    /// The zstd level
    #[arg(long, value_name = "N", default_value_t = CaptureOptions::DEFAULT_LEVEL, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
    /// How many threads; one for each core if not said
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// A folder with room for the image while it is made; the system's temporary folder if not said
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
}

impl Create {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        let client = context.session.client()?;
        let key = read_key(&self.key)?;
        // Before an hour of work: is boss there, and are we somebody?
        client.whoami().await?;
        let folder = match &self.work_dir {
            Some(folder) => tempfile::Builder::new().prefix("ebb-image-").tempdir_in(folder),
            None => tempfile::Builder::new().prefix("ebb-image-").tempdir(),
        };
        let folder = folder.map_err(|error| io_exit("make a folder for the image", &error))?;
        let (image, signature) = (folder.path().join("image.zdi"), folder.path().join("image.sig"));
        self.make(context, &image, &signature).await?;
        let (_, sealed) = seal(&self.name, &image, &signature, &key)?;
        let sealed = String::from_utf8(sealed.to_bytes())
            .map_err(|error| Exit::new(Code::Failed, format!("encode the sealed file: {error}")))?;
        for path in [&signature, &image] {
            upload(context, &client, path).await?;
        }
        let request = RegisterImage { project: self.project, name: self.name, sealed };
        let view = client.register_image(&request).await?;
        context.output.data(&view, describe)
    }

    /// Runs the engine on a thread of its own, saying how far it is; Ctrl-C stops it.
    async fn make(&self, context: &Context, image: &Path, signature: &Path) -> Result<(), Exit> {
        let state = Arc::new((Progress::default(), AtomicBool::new(false)));
        let (sender, mut receiver) = tokio::sync::oneshot::channel();
        let shared = Arc::clone(&state);
        let (source, image, signature) = (self.source.clone(), image.to_owned(), signature.to_owned());
        let (level, threads) = (self.level, self.threads.unwrap_or_else(default_threads));
        let output = context.output;
        let work = move || {
            let options = CaptureOptions {
                bases: &[],
                block_size: BlockSize::DEFAULT,
                level,
                threads,
                ..CaptureOptions::default()
            };
            let control = Control { progress: &shared.0, cancel: &shared.1 };
            let mut tell =
                |layout: &imagezip::layout::Layout| doubts(layout).iter().for_each(|doubt| output.say(doubt));
            // Nobody waits any more only when the program is ending.
            drop(sender.send(make_image(&source, &image, &signature, &options, control, &mut tell).map(drop)));
        };
        let thread = std::thread::Builder::new().name("image".to_owned()).spawn(work);
        thread.map_err(|error| io_exit("start a thread", &error))?;
        let mut interrupted = false;
        loop {
            tokio::select! {
                made = &mut receiver => {
                    let made = made.map_err(|_| Exit::new(Code::Failed, "the engine ended without an answer"))?;
                    return match made {
                        _ if interrupted => Err(Exit::new(Code::Interrupted, "interrupted; nothing was registered")),
                        Ok(()) => Ok(()),
                        Err(error) => Err(imaging_exit(&error)),
                    };
                }
                _ = tokio::signal::ctrl_c() => {
                    interrupted = true;
                    state.1.store(true, Ordering::Relaxed);
                }
                () = tokio::time::sleep(SAY) => {
                    let now = state.0.snapshot();
                    let (done, total) = (size(now.done_bytes.get()), size(now.total_bytes.get()));
                    output.say(format!("{done} of {total} read, {} stored", size(now.stored_bytes.get())));
                }
            }
        }
    }
}

fn imaging_exit(error: &ImagingError) -> Exit {
    Exit::because(Code::Failed, error).next("nothing was uploaded or registered")
}

async fn upload(context: &Context, client: &UserClient, path: &Path) -> Result<(), Exit> {
    let file = FileUpload::open(path).await?;
    let sent = file.sent();
    let mut sending = std::pin::pin!(client.put_object(&file));
    let stored = loop {
        tokio::select! {
            stored = &mut sending => break stored?,
            _ = tokio::signal::ctrl_c() => {
                return Err(Exit::new(Code::Interrupted, "interrupted; nothing was registered"));
            }
            () = tokio::time::sleep(SAY) => {
                let (sent, all) = (size(sent.load(Ordering::Relaxed)), size(file.bytes().get()));
                context.output.say(format!("{sent} of {all} sent"));
            }
        }
    };
    let what = path.file_name().unwrap_or_default().to_string_lossy();
    match stored {
        Stored::New => context.output.say(format!("{what}: {} sent", size(file.bytes().get()))),
        Stored::WasThere => context.output.say(format!("{what}: boss had it")),
    }
    Ok(())
}
