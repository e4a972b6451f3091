//! Ids: uuid v7, one type each, so that a node is never taken for an experiment.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! define_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a uuid read from the database or made by the caller.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Returns the bare uuid, for a query.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

define_id! {
    /// A user.
    UserId
}
define_id! {
    /// A project.
    ProjectId
}
define_id! {
    /// An experiment; its name may be reused, its id never.
    ExperimentId
}
define_id! {
    /// A virtual node: a place in an experiment that a machine takes.
    VirtualNodeId
}
define_id! {
    /// A machine.
    NodeId
}
define_id! {
    /// A disk of a machine.
    DiskId
}
define_id! {
    /// An image, all its versions.
    ImageId
}
define_id! {
    /// One immutable version of an image.
    ImageVersionId
}
define_id! {
    /// A job: what a person asked for and can watch.
    JobId
}
define_id! {
    /// A swap point: one saved state of all nodes of an experiment.
    SwapPointId
}
define_id! {
    /// A capture: the saving of one disk in one swap point.
    CaptureId
}
define_id! {
    /// A write to a disk, and the permit it happens under.
    WriteId
}
define_id! {
    /// One boot of an agent.
    BootId
}
