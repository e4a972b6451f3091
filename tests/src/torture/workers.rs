//! Cases shared among workers, each of which has a site of its own.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::turnover::Turnover;

/// A worker.
#[derive(Debug)]
pub struct Worker {
    folder: PathBuf,
    sites: u32,
    turnover: Option<Turnover>,
}

impl Worker {
    /// Returns a folder of its own for one case.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns its site, which is started when there is none.
    ///
    /// # Errors
    /// When it does not start.
    pub fn turnover(&mut self) -> anyhow::Result<&mut Turnover> {
        match &mut self.turnover {
            Some(turnover) => Ok(turnover),
            none => {
                // What a failed case left is kept, to be looked at.
                self.sites += 1;
                Ok(none.insert(Turnover::start(&self.folder.join(self.sites.to_string()))?))
            }
        }
    }
}

/// Runs every case on one of so many workers, and tells what came of it, one at a time. The first worker has the site
/// `first`; a site on which a case failed is not used again.
pub fn share<C: Sync, R: Send>(
    folder: &Path,
    first: Turnover,
    workers: usize,
    cases: &[C],
    run: impl Fn(&mut Worker, usize, &C) -> anyhow::Result<R> + Sync,
    told: impl FnMut(usize, &C, anyhow::Result<R>) + Send,
) {
    let (queue, told) = (Mutex::new(cases.iter().enumerate()), Mutex::new(told));
    std::thread::scope(|scope| {
        let (queue, told, run) = (&queue, &told, &run);
        let mut ready = Some(first);
        for worker in 0..workers {
            let mut worker =
                Worker { folder: folder.join(format!("worker-{worker}")), sites: 1, turnover: ready.take() };
            scope.spawn(move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((index, case)) = next else { break };
                    let ended = run(&mut worker, index, case);
                    if ended.is_err() {
                        worker.turnover = None;
                    }
                    told.lock().unwrap_or_else(PoisonError::into_inner)(index, case, ended);
                }
            });
        }
    });
}
