//! An image with its bases: opened, checked as a whole, then read.
//!
//! [`Chain<Unverified>`] knows that the files are images and fit together by root. [`Chain<Verified>`] has also parsed
//! every map and found every block a map refers to. Its frames were digested, too, all of them ([`Chain::verify`]), or
//! are when they are read ([`Chain::verify_maps`]): what is left to fail is the medium, and frames whose maker wrote
//! nonsense under a correct digest. Restore takes nothing else; it digests the frames it needs before it writes, or where
//! there is nothing to lose proves them by the root of what it reads back.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use sigs::image_map::{BadMap, ImageMap};
use sigs::manifest::{ImageKind, Manifest};
use sigs::zdi::{Container, MAX_MAP_BYTES, ZdiError};
use sigs::{BlockCounts, BlockIndex, BlockSize, ByteLen, Digest, Geometry, ReadAt, Root};
use zstd::zstd_safe::{find_frame_compressed_size, get_frame_content_size};

use crate::control::{Control, Phase};
use crate::parallel;

mod disk;
mod expand;
mod plan;
mod reader;

pub use disk::ImageDisk;
pub use plan::{Content, Plan, PlanRun, PlanRuns};
pub use reader::ContentReader;

/// An image to be opened, and what to call it in messages.
#[derive(Clone, Debug)]
pub struct ImageSource {
    /// Usually a path.
    pub name: String,
    /// Its bytes.
    pub bytes: Arc<dyn ReadAt>,
}

/// An image that was refused or cannot be read. Every message names the image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The container is damaged, spliced, cut short or foreign.
    #[error("open {name}")]
    Container {
        /// The image.
        name: String,
        /// What is wrong.
        #[source]
        source: ZdiError,
    },
    /// A frame is damaged.
    #[error("read a frame of {name}")]
    Frame {
        /// The image.
        name: String,
        /// What is wrong.
        #[source]
        source: ZdiError,
    },
    /// A frame does not expand to what its table says.
    #[error("{name}: frame {frame} {reason}")]
    Expand {
        /// The image.
        name: String,
        /// The frame.
        frame: u32,
        /// What is wrong.
        reason: String,
    },
    /// The stored map does not expand to what the manifest binds.
    #[error("{name}: the map {reason}")]
    Map {
        /// The image.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The map is malformed.
    #[error("parse the map of {name}")]
    BadMap {
        /// The image.
        name: String,
        /// What is wrong.
        #[source]
        source: BadMap,
    },
    /// A run of the map refers to what is not there.
    #[error("{name}: the map at block {block} {reason}")]
    Origin {
        /// The image.
        name: String,
        /// The first block of the run.
        block: BlockIndex,
        /// What is wrong.
        reason: String,
    },
    /// The counts of map and manifest differ.
    #[error("{name}: the map has {found:?}, the manifest says {expected:?}")]
    Counts {
        /// The image.
        name: String,
        /// Counted.
        found: BlockCounts,
        /// Claimed.
        expected: BlockCounts,
    },
    /// A base that is needed was not given.
    #[error("{name} needs the base with root {root}; {given}")]
    MissingBase {
        /// The image.
        name: String,
        /// What it needs.
        root: Root,
        /// What was given instead.
        given: String,
    },
    /// An image was given that nothing refers to.
    #[error("{name} (root {root}) is not a base of {target}")]
    Foreign {
        /// The image nobody needs.
        name: String,
        /// Its root.
        root: Root,
        /// The image to be restored.
        target: String,
    },
    /// A delta and its base are cut differently.
    #[error("{name} has blocks of {found} bytes, its base has blocks of {expected}")]
    BlockSize {
        /// The image.
        name: String,
        /// Its blocks.
        found: BlockSize,
        /// Those of its base.
        expected: BlockSize,
    },
    /// The decompressor could not be made.
    #[error("prepare to decompress")]
    Zstd(#[source] io::Error),
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

/// One image of a chain.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) container: Container<Arc<dyn ReadAt>>,
    /// Which image of the chain each base of the map is.
    bases: Vec<usize>,
}

/// State of a chain whose maps and frames were not looked at.
#[derive(Clone, Copy, Debug)]
pub struct Unverified;

/// State of a chain whose maps were checked, and whose frames were, or are when they are read, or are proved by what is
/// made of them.
#[derive(Debug)]
pub struct Verified {
    plan: Plan,
    frames_checked: bool,
}

/// Whether the digest of a frame is checked when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digests {
    /// It is.
    Check,
    /// What is made of the frame is proved by its root.
    Proved,
}

/// Frames of a chain, by image.
#[derive(Debug)]
pub(crate) struct FrameSet(Vec<Vec<bool>>);

impl FrameSet {
    /// Adds the frame that a run lies in, if it lies in one.
    pub(crate) fn add(&mut self, content: Content) {
        let Content::Frame { image, frame, .. } = content else { return };
        let place = usize::try_from(frame).ok();
        if let Some(wanted) = place.and_then(|frame| self.0.get_mut(image)?.get_mut(frame)) {
            *wanted = true;
        }
    }
}

/// An image, and the images its blocks come from; the image itself is the last.
#[derive(Debug)]
pub struct Chain<S> {
    images: Vec<Image>,
    state: S,
}

impl Chain<Unverified> {
    /// Opens `image` with its `bases`, in any order; bases may be deltas themselves when their bases are given, too.
    ///
    /// # Errors
    /// [`ImageError`] when a file is not an image, a base is missing by root, or an image is given in vain.
    pub fn open(image: ImageSource, bases: Vec<ImageSource>) -> Result<Self, ImageError> {
        Self::open_with(image, bases, Vec::new())
    }

    /// Opens `image` with its `bases`, and with those of the `offered` images that it needs besides.
    ///
    /// # Errors
    /// As [`Chain::open`]; only one of the `bases` can be given in vain.
    pub fn open_with(
        image: ImageSource,
        bases: Vec<ImageSource>,
        offered: Vec<ImageSource>,
    ) -> Result<Self, ImageError> {
        let names: Vec<String> = bases.iter().map(|base| base.name.clone()).collect();
        let (chain, spare) = Self::assemble(image, bases.into_iter().chain(offered).collect())?;
        let Some(image) = spare.into_iter().find(|image| names.contains(&image.name)) else { return Ok(chain) };
        let root = image.container.manifest().target_root;
        let target = chain.images.last().map(|image| image.name.clone()).unwrap_or_default();
        Err(ImageError::Foreign { name: image.name, root, target })
    }

    /// Opens `image` with those of the `offered` images that it needs; the others are left alone.
    ///
    /// # Errors
    /// [`ImageError`] when a file is not an image, or a base is missing by root.
    pub fn open_among(image: ImageSource, offered: Vec<ImageSource>) -> Result<Self, ImageError> {
        Self::assemble(image, offered).map(|(chain, _)| chain)
    }

    /// Finds what an image needs among others; also returns those that it does not need.
    fn assemble(image: ImageSource, others: Vec<ImageSource>) -> Result<(Self, Vec<Image>), ImageError> {
        let mut images = Vec::with_capacity(others.len() + 1);
        for source in others.into_iter().chain([image]) {
            let ImageSource { name, bytes } = source;
            let opened = Container::open(bytes);
            let container = opened.map_err(|source| ImageError::Container { name: name.clone(), source })?;
            images.push(Image { name, container, bases: Vec::new() });
        }
        let mut needed = vec![false; images.len()];
        let mut queue = vec![images.len() - 1];
        while let Some(index) = queue.pop() {
            if std::mem::replace(&mut needed[index], true) {
                continue;
            }
            let found = find_bases(&images, index)?;
            queue.extend(&found);
            images[index].bases = found;
        }
        // Where each image is once those that are not needed are gone.
        let place = |index: usize| needed[..index].iter().filter(|needed| **needed).count();
        let (mut kept, mut spare) = (Vec::with_capacity(images.len()), Vec::new());
        for (mut image, needed) in images.into_iter().zip(&needed) {
            image.bases.iter_mut().for_each(|base| *base = place(*base));
            if *needed { kept.push(image) } else { spare.push(image) }
        }
        Ok((Self { images: kept, state: Unverified }, spare))
    }

    /// Checks everything there is to check without a target: maps, origins, counts, the digest of every frame.
    ///
    /// # Errors
    /// [`ImageError`] with the first thing that is wrong.
    pub fn verify(self, threads: NonZeroUsize, control: Control<'_>) -> Result<Chain<Verified>, ImageError> {
        let mut chain = self.verify_maps()?;
        chain.check_frames(&chain.all_frames(), threads, control)?;
        chain.state.frames_checked = true;
        Ok(chain)
    }

    /// Checks maps, origins and counts; the digest of a frame is checked whenever it is read. For whoever needs little
    /// of a large image.
    ///
    /// # Errors
    /// [`ImageError`] with the first thing that is wrong.
    pub fn verify_maps(self) -> Result<Chain<Verified>, ImageError> {
        let last = self.images.len() - 1;
        let mut plans: Vec<Option<Plan>> = self.images.iter().map(|_| None).collect();
        self.plan(last, &mut plans, 0)?;
        let plan = plans[last].take().ok_or(ImageError::Cancelled)?;
        Ok(Chain { images: self.images, state: Verified { plan, frames_checked: false } })
    }

    /// Makes the plan of one image after those of its bases.
    fn plan(&self, index: usize, plans: &mut Vec<Option<Plan>>, depth: usize) -> Result<(), ImageError> {
        if plans[index].is_some() {
            return Ok(());
        }
        let image = &self.images[index];
        if depth > self.images.len() {
            // Roots of a real chain cannot form a circle; those of a made-up one can.
            return Err(ImageError::Map { name: image.name.clone(), reason: "refers to itself".to_owned() });
        }
        for base in &image.bases {
            self.plan(*base, plans, depth + 1)?;
        }
        let map = load_map(image)?;
        let bases: Vec<&Plan> = image.bases.iter().filter_map(|base| plans[*base].as_ref()).collect();
        let plan = Plan::new(index, image, map, &bases)?;
        plans[index] = Some(plan);
        Ok(())
    }
}

impl<S> Chain<S> {
    /// Returns the manifest of the image that is to be restored.
    pub fn manifest(&self) -> &Manifest {
        self.images[self.images.len() - 1].container.manifest()
    }

    /// Returns how the disk of the state is cut.
    pub fn geometry(&self) -> &Geometry {
        &self.manifest().geometry
    }

    pub(crate) fn images(&self) -> &[Image] {
        &self.images
    }
}

impl Chain<Verified> {
    /// Returns where the content of every block is.
    pub const fn plan(&self) -> &Plan {
        &self.state.plan
    }

    /// Returns a set of no frames.
    pub(crate) fn no_frames(&self) -> FrameSet {
        FrameSet(self.images.iter().map(|image| vec![false; image.container.contents().frames.len()]).collect())
    }

    /// Returns the set of all frames.
    pub(crate) fn all_frames(&self) -> FrameSet {
        FrameSet(self.images.iter().map(|image| vec![true; image.container.contents().frames.len()]).collect())
    }

    /// Checks the digest of every frame, unless that was done.
    pub(crate) fn ensure_frames(&self, threads: NonZeroUsize, control: Control<'_>) -> Result<(), ImageError> {
        if self.state.frames_checked { Ok(()) } else { self.check_frames(&self.all_frames(), threads, control) }
    }

    /// Checks the digests of some frames.
    pub(crate) fn check_frames(
        &self,
        wanted: &FrameSet,
        threads: NonZeroUsize,
        control: Control<'_>,
    ) -> Result<(), ImageError> {
        let items = || {
            self.images.iter().zip(&wanted.0).flat_map(|(image, wanted)| {
                let frames = (0_u32..).zip(wanted).filter(|(_, wanted)| **wanted);
                frames.map(move |(frame, _)| (image, frame))
            })
        };
        let stored = items().filter_map(|(image, frame)| image.container.frame_range(frame));
        let total = stored.fold(0, |sum: u64, (_, record)| sum.saturating_add(u64::from(record.stored_bytes)));
        control.progress.begin(Phase::Check, ByteLen::new(total));
        let work = |buffer: &mut Vec<u8>, (image, frame): (&Image, u32)| {
            if control.cancelled() {
                return Err(ImageError::Cancelled);
            }
            read_checked(image, frame, Digests::Check, buffer)?;
            control.progress.add_done(ByteLen::of(buffer));
            Ok(())
        };
        parallel::in_order("check", threads, items(), Vec::new, work, Ok)
    }
}

/// Finds the bases of an image by their roots.
fn find_bases(images: &[Image], index: usize) -> Result<Vec<usize>, ImageError> {
    let image = &images[index];
    let manifest = image.container.manifest();
    let find = |root: &Root| {
        let has = |other: &Image| other.container.manifest().target_root == *root;
        let candidates = images.iter().enumerate().filter(|(other, image)| *other != index && has(image));
        // Of two images of one state the one that stands alone needs nothing else.
        let found = candidates.min_by_key(|(_, image)| image.container.manifest().kind == ImageKind::Delta);
        let (base, found) = found.ok_or_else(|| ImageError::MissingBase {
            name: image.name.clone(),
            root: *root,
            given: given(images, index),
        })?;
        let (found, expected) = (manifest.geometry.block_size, found.container.manifest().geometry.block_size);
        if found == expected {
            Ok(base)
        } else {
            Err(ImageError::BlockSize { name: image.name.clone(), found, expected })
        }
    };
    match manifest.kind {
        ImageKind::Full => Ok(Vec::new()),
        ImageKind::Delta => manifest.base_roots.iter().map(find).collect(),
    }
}

fn given(images: &[Image], index: usize) -> String {
    let others = images.iter().enumerate().filter(|(other, _)| *other != index);
    let names: Vec<_> =
        others.map(|(_, image)| format!("{} has {}", image.name, image.container.manifest().target_root)).collect();
    if names.is_empty() { "name its base, too".to_owned() } else { names.join(", ") }
}

/// Expands and checks the map of an image.
fn load_map(image: &Image) -> Result<ImageMap, ImageError> {
    let wrong = |reason: String| ImageError::Map { name: image.name.clone(), reason };
    let contents = image.container.contents();
    let manifest = image.container.manifest();
    let expected = contents.map_bytes;
    let len = expected.to_usize().filter(|_| expected.get() <= MAX_MAP_BYTES);
    let len = len.ok_or_else(|| wrong(format!("is said to have {expected} bytes, which is too much")))?;
    check_zstd(&contents.stored_map, expected).map_err(wrong)?;
    let bytes = zstd::bulk::decompress(&contents.stored_map, len);
    let bytes = bytes.map_err(|error| wrong(format!("cannot be expanded: {error}")))?;
    let found = Digest::of(&bytes);
    if bytes.len() != len || found != manifest.map {
        return Err(wrong(format!("has the digest {found}, the manifest binds {}", manifest.map)));
    }
    let encoding = manifest.format.map_encoding(manifest.geometry.block_size);
    let parsed = ImageMap::parse(bytes, manifest.geometry.blocks(), encoding);
    parsed.map_err(|source| ImageError::BadMap { name: image.name.clone(), source })
}

/// Reads the stored bytes of a frame; checks their digest and that they are one zstd frame of the right length.
fn read_checked(image: &Image, frame: u32, digests: Digests, buffer: &mut Vec<u8>) -> Result<ByteLen, ImageError> {
    let read = match digests {
        Digests::Check => image.container.read_frame(frame, buffer),
        Digests::Proved => image.container.read_frame_unchecked(frame, buffer),
    };
    let record = read.map_err(|source| ImageError::Frame { name: image.name.clone(), source })?;
    let raw = ByteLen::new(u64::from(record.raw_bytes));
    check_zstd(buffer, raw).map_err(|reason| ImageError::Expand { name: image.name.clone(), frame, reason })?;
    Ok(raw)
}

/// Checks that `stored` is exactly one zstd frame that says it expands to `raw` bytes.
///
/// Such a frame needs no window, and no memory beyond what it expands to.
fn check_zstd(stored: &[u8], raw: ByteLen) -> Result<(), String> {
    match get_frame_content_size(stored) {
        Ok(Some(found)) if found == raw.get() => {}
        Ok(found) => return Err(format!("says it expands to {found:?} bytes, {raw} are expected")),
        Err(_) => return Err("is not a zstd frame".to_owned()),
    }
    match find_frame_compressed_size(stored) {
        Ok(len) if len == stored.len() => Ok(()),
        Ok(len) => Err(format!("ends after {len} of {} bytes", stored.len())),
        Err(code) => Err(format!("is malformed: {}", zstd::zstd_safe::get_error_name(code))),
    }
}
