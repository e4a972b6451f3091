//! What is shown to people and their programs: several aggregates read together. Nothing here changes anything.

mod experiments;
mod images;
mod jobs;
mod machines;
mod points;

pub use experiments::{experiment, experiments};
pub use images::{image, images};
pub use jobs::{JobOfExperiment, job, last_job};
pub use machines::{machine, machines};
pub use points::points;
