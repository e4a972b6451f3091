//! Doing things on several threads and taking the results in order, with a bounded number under way.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

/// A result with its place in the order, or the news that a thread ended in the middle of its work.
type Outcome<T> = Option<(u64, T)>;

/// Tells the receiver when its thread unwinds, so that nobody waits for a result that will not come.
#[derive(Debug)]
pub(crate) struct Alarm<T>(pub(crate) Sender<Option<T>>);

impl<T> Drop for Alarm<T> {
    fn drop(&mut self) {
        if thread::panicking() {
            drop(self.0.send(None));
        }
    }
}

/// Works on `items` on `threads` threads and hands the results to `consume` in the order of the items.
///
/// At most two items for each thread, and one more, are under way or wait for their turn. The first error ends it all.
/// Each thread keeps its own state, made by `start`. Where the system gives no threads, the caller's does the work.
pub(crate) fn in_order<I, S, T, E>(
    name: &str,
    threads: NonZeroUsize,
    items: impl Iterator<Item = I>,
    start: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, I) -> Result<T, E> + Sync,
    mut consume: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E>
where
    I: Send,
    T: Send,
    E: Send,
{
    let window = threads.get().saturating_mul(2).saturating_add(1);
    let (item_sender, item_receiver) = bounded::<(u64, I)>(window);
    let (result_sender, result_receiver) = bounded::<Outcome<Result<T, E>>>(window + threads.get());
    let (start, work) = (&start, &work);
    thread::scope(|scope| {
        let mut running = 0_usize;
        for index in 0..threads.get() {
            let (items, results) = (item_receiver.clone(), result_sender.clone());
            let builder = thread::Builder::new().name(format!("{name}-{index}"));
            let spawned = builder.spawn_scoped(scope, move || serve(&items, results, start(), work));
            running += usize::from(spawned.is_ok());
        }
        drop((item_receiver, result_sender));
        if running == 0 {
            let mut state = start();
            return items.map(|item| work(&mut state, item)).try_for_each(|result| consume(result?));
        }
        // The channels go along: when it returns, for whatever reason, the threads find them closed and end.
        collect(items, window, item_sender, result_receiver, &mut consume)
    })
}

fn serve<I, S, T, E>(
    items: &Receiver<(u64, I)>,
    results: Sender<Outcome<Result<T, E>>>,
    mut state: S,
    work: &impl Fn(&mut S, I) -> Result<T, E>,
) {
    let results = Alarm(results);
    for (number, item) in items {
        if results.0.send(Some((number, work(&mut state, item)))).is_err() {
            return;
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the channels have to close when this returns")]
fn collect<I, T, E>(
    mut items: impl Iterator<Item = I>,
    window: usize,
    sender: Sender<(u64, I)>,
    results: Receiver<Outcome<Result<T, E>>>,
    consume: &mut impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let (mut issued, mut next) = (0_u64, 0_u64);
    let mut under_way = 0_usize;
    let mut early = BTreeMap::new();
    loop {
        while under_way < window {
            let Some(item) = items.next() else { break };
            if sender.send((issued, item)).is_err() {
                return Ok(());
            }
            issued += 1;
            under_way += 1;
        }
        if under_way == 0 {
            return Ok(());
        }
        // No result means that a thread panicked; leaving the scope passes that on.
        let Ok(Some((number, result))) = results.recv() else { return Ok(()) };
        early.insert(number, result?);
        while let Some(result) = early.remove(&next) {
            consume(result)?;
            next += 1;
            under_way -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_come_in_order_and_the_number_under_way_is_bounded() {
        let (open, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut seen = Vec::new();
        let threads = NonZeroUsize::new(3).unwrap();
        let items = (0..500_u64).inspect(|_| {
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        });
        let result: Result<(), ()> = in_order(
            "test",
            threads,
            items,
            || 0_u64,
            |state, item| {
                *state += 1;
                std::hint::black_box((0..(item % 7) * 1000).map(std::hint::black_box).sum::<u64>());
                Ok(item)
            },
            |item| {
                open.fetch_sub(1, Ordering::SeqCst);
                seen.push(item);
                Ok(())
            },
        );
        result.unwrap();
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= 7, "{most:?} under way");
    }

    #[test]
    fn the_first_error_ends_it() {
        let threads = NonZeroUsize::new(2).unwrap();
        let work = |(): &mut (), item: u64| if item == 20 { Err(item) } else { Ok(item) };
        let result = in_order("test", threads, 0.., || (), work, |_| Ok(()));
        assert_eq!(result, Err(20));
    }

    #[test]
    fn a_panic_is_passed_on_instead_of_waited_for() {
        let threads = NonZeroUsize::new(2).unwrap();
        let run = || {
            let work = |(): &mut (), item: u64| if item == 5 { panic!("on purpose") } else { Ok::<_, ()>(item) };
            in_order("test", threads, 0..100, || (), work, |_| Ok(()))
        };
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
