//! The pages. Logic is in methods of the structs, not in the templates.

mod confirm;
mod experiment;
mod experiments;
mod held;
mod inventory;
mod message;
mod new_experiment;
mod progress;
mod sign_in;
mod steps;

pub use confirm::ConfirmSwapOutPage;
pub use experiment::ExperimentPage;
pub use experiments::ExperimentsPage;
pub use inventory::{ImagesPage, NodesPage};
pub use message::MessagePage;
pub use new_experiment::{NewExperimentForm, NewExperimentPage, NodeFields, Problems, ROWS};
pub use progress::{Bar, NodeRow};
pub use sign_in::SignInPage;
pub use steps::{Step, StepState};
