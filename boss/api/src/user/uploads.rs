//! Objects that are sent in pieces, so that what arrived before a cut is not sent again.

use serde::{Deserialize, Serialize};
use sigs::ByteLen;

/// The most bytes of one piece.
pub const MAX_PIECE: ByteLen = ByteLen::new(1 << 20);
/// The most pieces of one object.
pub const MAX_PIECES: usize = 1 << 20;

/// Says that pieces of an object will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginUpload {
    /// How many bytes it has.
    pub bytes: ByteLen,
}
