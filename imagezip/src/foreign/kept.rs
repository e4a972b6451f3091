//! What was read or made last, to be used again.

use std::collections::VecDeque;
use std::sync::Arc;

/// A few values by their key; the one that was not used for longest goes first.
#[derive(Debug)]
pub(super) struct Kept<K, T> {
    most: usize,
    values: VecDeque<(K, Arc<T>)>,
}

impl<K: PartialEq, T> Kept<K, T> {
    /// Makes an empty one that keeps so many values, at least one.
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), values: VecDeque::new() }
    }

    /// Returns a value that is there.
    pub(super) fn find(&mut self, key: &K) -> Option<Arc<T>> {
        let at = self.values.iter().position(|(found, _)| found == key)?;
        let found = self.values.remove(at)?;
        let value = Arc::clone(&found.1);
        self.values.push_back(found);
        Some(value)
    }

    /// Keeps a value.
    pub(super) fn keep(&mut self, key: K, value: &Arc<T>) {
        while self.values.len() >= self.most {
            self.values.pop_front();
        }
        self.values.push_back((key, Arc::clone(value)));
    }
}
