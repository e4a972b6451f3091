//! What people's programs ask of boss, under `/api/v1`.
//!
//! | Request | Body -> answer |
//! |---|---|
//! | `POST login` | [`LoginRequest`] -> [`LoginAnswer`] |
//! | `POST logout`, `GET whoami` | -> [`Whoami`] |
//! | `GET experiments`, `POST experiments` | [`CreateExperiment`] -> [`ExperimentView`] |
//! | `GET experiments/{pid}/{eid}`, `PATCH` | [`ModifyExperiment`] -> [`ExperimentView`] |
//! | `POST experiments/{pid}/{eid}/{swapin,swapout,terminate,cancel}` | -> [`JobView`] |
//! | `POST experiments/{pid}/{eid}/retry` | [`RetryHeld`] -> [`JobView`] |
//! | `POST experiments/{pid}/{eid}/discard` | [`DiscardNode`] -> [`JobView`] |
//! | `POST experiments/{pid}/{eid}/giveup` | [`GiveUp`] -> [`JobView`] |
//! | `GET experiments/{pid}/{eid}/{points,events}` | -> [`SwapPointView`]s, [`EventView`]s |
//! | `GET jobs/{id}?wait_ms=N` | -> [`JobView`], after a change or so long |
//! | `GET nodes`, `GET nodes/{name}`, `POST nodes` | [`RegisterNode`] -> [`NodeView`] |
//! | `POST nodes/{name}/load` | [`LoadNode`] -> [`JobView`] |
//! | `POST nodes/{name}/retry` | -> [`NodeView`] |
//! | `POST nodes/{name}/keep` | [`KeepNode`] -> [`NodeView`] |
//! | `GET objects/{digest}` | -> raw bytes; with `Range: bytes=A-B` those, 206, or 416; 404 is not there, or not for you |
//! | `HEAD objects/{digest}` | -> 200 there is a file for it, which nobody read now, 404 is not there |
//! | `PUT objects/{digest}` | raw bytes -> 201 stored, 200 was there, read back; ask `POST uploads/{digest}` first |
//! | `POST uploads/{digest}` | [`BeginUpload`] -> 201 the object may come, in pieces or at once, 200 it is there, read back |
//! | `POST uploads/{digest}/offer` | [`Offer`](crate::agent::Offer) of pieces -> [`Lacking`](crate::agent::Lacking) |
//! | `PUT uploads/{digest}/pieces/{piece}` | the raw bytes of a piece, at most [`MAX_PIECE`] -> 204 |
//! | `POST uploads/{digest}/finish` | the digests of all pieces in order, 32 raw bytes each -> 201 stored, 200 was there, 409 some are lacking |
//! | `GET images`, `POST images` | [`RegisterImage`] -> [`ImageView`] |
//! | `GET images/{project}/{name}`, `POST images/{project}/{name}/{version}/retire` | -> [`ImageView`] |
//! | `GET settings`, `PUT settings/{name}` | [`ChangeSetting`] -> [`SettingView`] |

mod experiments;
mod held;
mod images;
mod jobs;
mod nodes;
mod people;
mod points;
mod site;
mod uploads;

pub use experiments::{
    CreateExperiment, ExperimentState, ExperimentView, ImageSelector, MAX_VIRTUAL_NODES, ModifyExperiment,
    VirtualNodeSpec, VirtualNodeView,
};
pub use held::{Confirmation, DiscardNode, GiveUp, HeldDisks, KeepNode, KeptView, MAX_NOTE, RetryHeld};
pub use images::{ImageVersionView, ImageView, RegisterImage};
pub use jobs::{JobKind, JobState, JobView, MAX_WAIT_MS, OnFailure};
pub use nodes::{DiskView, LoadNode, NodeStateView, NodeView, PowerConfig, RegisterDisk, RegisterNode, SegmentView};
pub use people::{LoginAnswer, LoginRequest, UserRole, Whoami};
pub use points::{CaptureView, DiskActivity, DiskProgress, SwapPointState, SwapPointView};
pub use site::{ChangeSetting, EventView, SettingView};
pub use uploads::{BeginUpload, MAX_PIECE, MAX_PIECES};
