//! Rebuilds the root of a saved state from the bytes in the store, to prove that what was stored can be restored.
//!
//! An independent reader: it shares no parser and no decoder with the engine that made the image, only the words of
//! `sigs` (units, maps, signatures, the manifest's shape). What both get wrong in the same way would have to be wrong in
//! `docs/formats/`.
//!
//! - [`container`]: the layout of a `.zdi` file
//! - [`runs`]: the map inside it
//! - [`mod@rebuild`]: frames and base signature to the signature of the saved state

pub mod container;
pub mod rebuild;
pub mod runs;

pub use container::VerifyError;
pub use rebuild::{Rebuilt, rebuild};
