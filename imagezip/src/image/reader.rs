//! Reading the content of blocks out of a verified chain.

use std::collections::VecDeque;

use sigs::{BlockSize, ByteLen};

use super::expand::Expander;
use super::{Chain, Content, Digests, Image, ImageError, PlanRun, Verified};
use crate::io::AlignedBuffer;

/// How many expanded frames a reader keeps for each image of its chain.
const KEPT_FOR_EACH_IMAGE: usize = 2;

/// Reads content, frame by frame. One for each thread.
///
/// Memory: two expanded frames for each image of the chain, one stored frame, one zstd context: about 5 MiB for a
/// delta and its base. Whoever goes through a disk in order expands nearly every frame once.
pub struct ContentReader<'a> {
    chain: &'a Chain<Verified>,
    block_size: BlockSize,
    kept: VecDeque<(usize, u32, AlignedBuffer)>,
    expander: Expander,
    digests: Digests,
}

impl std::fmt::Debug for ContentReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentReader").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl<'a> ContentReader<'a> {
    /// Makes a reader that believes no stored byte whose digest it did not check.
    pub fn new(chain: &'a Chain<Verified>) -> Self {
        Self::with_digests(chain, Digests::Check)
    }

    /// Makes a reader for whoever proves by its root what was made of the content, and would hash everything twice.
    /// A damaged frame is found by that proof, or is no zstd frame any more.
    pub(crate) fn of_proved(chain: &'a Chain<Verified>) -> Self {
        Self::with_digests(chain, Digests::Proved)
    }

    fn with_digests(chain: &'a Chain<Verified>, digests: Digests) -> Self {
        let block_size = chain.geometry().block_size;
        Self { chain, block_size, kept: VecDeque::new(), expander: Expander::default(), digests }
    }

    /// Returns the content of a run of the chain's plan, or nothing when it is not DATA.
    ///
    /// # Errors
    /// [`ImageError`] when the frame is damaged by now, or does not expand to what its table says.
    pub fn content(&mut self, run: &PlanRun) -> Result<Option<&[u8]>, ImageError> {
        let Content::Frame { image, frame, first } = run.content else { return Ok(None) };
        let size = self.block_size.as_usize();
        let len = self.chain.plan().byte_range(run).map(|range| range.len).and_then(ByteLen::to_usize);
        let start = usize::try_from(first).ok().and_then(|first| first.checked_mul(size));
        let chain = self.chain;
        let source = &chain.images()[image];
        let raw = self.frame(source, image, frame)?;
        let content = start.zip(len).and_then(|(start, len)| raw.get(start..start.checked_add(len)?));
        content.map(Some).ok_or_else(|| ImageError::Expand {
            name: source.name.clone(),
            frame,
            reason: "ends before a block that the map refers to".to_owned(),
        })
    }

    fn frame(&mut self, source: &Image, image: usize, frame: u32) -> Result<&[u8], ImageError> {
        let found = self.kept.iter().position(|(i, f, _)| (*i, *f) == (image, frame));
        let kept = match found.and_then(|at| self.kept.remove(at)) {
            Some(kept) => kept,
            None => {
                let full = self.kept.len() >= KEPT_FOR_EACH_IMAGE * self.chain.images().len();
                let oldest = if full { self.kept.pop_front() } else { None };
                let mut raw = oldest.map(|(_, _, raw)| raw).unwrap_or_default();
                self.expander.expand(source, frame, self.digests, &mut raw)?;
                (image, frame, raw)
            }
        };
        self.kept.push_back(kept);
        Ok(self.kept.back().map_or(&[], |(_, _, raw)| raw))
    }
}
