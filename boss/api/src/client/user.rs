//! What people's programs ask of boss.

use std::time::Duration;

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sigs::{ByteLen, ByteRange, Digest};

use super::uploads::stored;
use super::{ClientError, FileUpload, Transport};
use crate::ids::JobId;
use crate::names::{ExperimentName, Name};
use crate::user::{
    ChangeSetting, CreateExperiment, DiscardNode, EventView, ExperimentView, GiveUp, ImageView, JobView, KeepNode,
    LoadNode, LoginAnswer, LoginRequest, MAX_WAIT_MS, ModifyExperiment, NodeView, RegisterImage, RegisterNode,
    RetryHeld, SettingView, SwapPointView, Whoami,
};

/// What can be asked for with an experiment; each makes a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExperimentAction {
    /// Load machines and give them to it.
    SwapIn,
    /// Save and release its machines.
    SwapOut,
    /// Release its machines for good.
    Terminate,
    /// Take a swap-out back.
    Cancel,
}

impl ExperimentAction {
    const fn segment(self) -> &'static str {
        match self {
            Self::SwapIn => "swapin",
            Self::SwapOut => "swapout",
            Self::Terminate => "terminate",
            Self::Cancel => "cancel",
        }
    }
}

/// What became of an object that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is stored now.
    New,
    /// The same bytes were there.
    WasThere,
}

/// Speaks for one person.
#[derive(Clone, Debug)]
pub struct UserClient {
    transport: Transport,
}

impl UserClient {
    /// Prepares to speak to boss; nothing is sent yet. Without a token only [`UserClient::login`] succeeds.
    ///
    /// # Errors
    /// [`ClientError::Address`].
    pub fn new(address: &str, token: Option<&str>) -> Result<Self, ClientError> {
        Ok(Self { transport: Transport::new(address, ["api", "v1"], token)? })
    }

    /// Returns how boss is reached.
    pub(super) const fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Asks for a token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn login(&self, request: &LoginRequest) -> Result<LoginAnswer, ClientError> {
        self.transport.post(&["login"], request).await
    }

    /// Ends the token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn logout(&self) -> Result<(), ClientError> {
        self.transport.tell(&["logout"], &serde_json::json!({})).await
    }

    /// Returns who is signed in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn whoami(&self) -> Result<Whoami, ClientError> {
        self.transport.get(&["whoami"]).await
    }

    /// Lists the experiments that the caller may see.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn experiments(&self) -> Result<Vec<ExperimentView>, ClientError> {
        self.transport.get(&["experiments"]).await
    }

    /// Makes an experiment, swapped out.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_experiment(&self, request: &CreateExperiment) -> Result<ExperimentView, ClientError> {
        self.transport.post(&["experiments"], request).await
    }

    /// Shows an experiment.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn experiment(&self, name: &ExperimentName) -> Result<ExperimentView, ClientError> {
        self.transport.get(&experiment(name, &[])).await
    }

    /// Changes an experiment.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn modify_experiment(
        &self,
        name: &ExperimentName,
        change: &ModifyExperiment,
    ) -> Result<ExperimentView, ClientError> {
        self.change(Method::PATCH, &experiment(name, &[]), change).await
    }

    /// Asks for a job of an experiment.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn act(&self, name: &ExperimentName, action: ExperimentAction) -> Result<JobView, ClientError> {
        self.transport.post(&experiment(name, &[action.segment()]), &serde_json::json!({})).await
    }

    /// Lets what is held go on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn retry(&self, name: &ExperimentName, request: &RetryHeld) -> Result<JobView, ClientError> {
        self.transport.post(&experiment(name, &["retry"]), request).await
    }

    /// Gives up what could not be saved of a held node.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn discard(&self, name: &ExperimentName, request: &DiscardNode) -> Result<JobView, ClientError> {
        self.transport.post(&experiment(name, &["discard"]), request).await
    }

    /// Gives a held swap-in up.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn give_up(&self, name: &ExperimentName, request: &GiveUp) -> Result<JobView, ClientError> {
        self.transport.post(&experiment(name, &["giveup"]), request).await
    }

    /// Lets one held machine go on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn retry_node(&self, name: &Name) -> Result<NodeView, ClientError> {
        self.transport.post(&["nodes", name.as_str(), "retry"], &serde_json::json!({})).await
    }

    /// Leaves a note on a held machine.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn keep_node(&self, name: &Name, request: &KeepNode) -> Result<NodeView, ClientError> {
        self.transport.post(&["nodes", name.as_str(), "keep"], request).await
    }

    /// Lists what was saved of an experiment.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn points(&self, name: &ExperimentName) -> Result<Vec<SwapPointView>, ClientError> {
        self.transport.get(&experiment(name, &["points"])).await
    }

    /// Lists what happened to an experiment.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(&self, name: &ExperimentName) -> Result<Vec<EventView>, ClientError> {
        self.transport.get(&experiment(name, &["events"])).await
    }

    /// Shows a job, after a change of it or after `wait`, whichever comes first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn job(&self, job: JobId, wait: Duration) -> Result<JobView, ClientError> {
        let wait = wait.min(Duration::from_millis(MAX_WAIT_MS));
        let mut url = self.transport.url(&["jobs", &job.to_string()]);
        url.query_pairs_mut().append_pair("wait_ms", &wait.as_millis().to_string());
        self.transport.answer(self.transport.request(Method::GET, url), wait).await
    }

    /// Lists the machines.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn nodes(&self) -> Result<Vec<NodeView>, ClientError> {
        self.transport.get(&["nodes"]).await
    }

    /// Shows a machine.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn node(&self, name: &Name) -> Result<NodeView, ClientError> {
        self.transport.get(&["nodes", name.as_str()]).await
    }

    /// Registers a machine.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn register_node(&self, request: &RegisterNode) -> Result<NodeView, ClientError> {
        self.transport.post(&["nodes"], request).await
    }

    /// Asks to load an image on a machine now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn load_node(&self, name: &Name, request: &LoadNode) -> Result<JobView, ClientError> {
        self.transport.post(&["nodes", name.as_str(), "load"], request).await
    }

    /// Sends a file as an object, unless boss has it and can read it back.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_object(&self, file: &FileUpload) -> Result<Stored, ClientError> {
        // A refusal is left to the request that brings the bytes: more fits in it than in pieces.
        match self.begin_upload(file.digest(), file.bytes()).await {
            Ok(Stored::WasThere) => return Ok(Stored::WasThere),
            // boss may still be reading back what it has: sending it all would not help.
            Err(error @ ClientError::Unreachable { .. }) => return Err(error),
            Ok(Stored::New) | Err(_) => {}
        }
        let url = self.transport.url(&["objects", &file.digest().to_string()]);
        let response = self.transport.upload(self.transport.request(Method::PUT, url), file).await?;
        Ok(stored(&response))
    }

    /// Asks how large an object is, without having it sent.
    ///
    /// # Errors
    /// [`ClientError`]; of code `not_found` also when the caller may not read it.
    pub async fn object_bytes(&self, digest: Digest) -> Result<ByteLen, ClientError> {
        self.transport.object_bytes(digest).await
    }

    /// Fetches a part, at most [`super::MAX_PART`], of an object that has so many bytes: all of the part and nothing else.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::BadAnswer`] for another part, or one of an object of another size.
    pub async fn object_part(&self, digest: Digest, size: ByteLen, part: ByteRange) -> Result<Vec<u8>, ClientError> {
        self.transport.object_part(digest, size, part).await
    }

    /// Lists the images that the caller may see.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn images(&self) -> Result<Vec<ImageView>, ClientError> {
        self.transport.get(&["images"]).await
    }

    /// Shows an image.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn image(&self, project: &Name, name: &Name) -> Result<ImageView, ClientError> {
        self.transport.get(&["images", project.as_str(), name.as_str()]).await
    }

    /// Registers a sealed base image whose files were sent as objects.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn register_image(&self, request: &RegisterImage) -> Result<ImageView, ClientError> {
        self.transport.post(&["images"], request).await
    }

    /// Retires a version of an image.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn retire_image(&self, project: &Name, name: &Name, version: u32) -> Result<ImageView, ClientError> {
        let version = version.to_string();
        let segments = ["images", project.as_str(), name.as_str(), &version, "retire"];
        self.transport.post(&segments, &serde_json::json!({})).await
    }

    /// Lists the settings.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn settings(&self) -> Result<Vec<SettingView>, ClientError> {
        self.transport.get(&["settings"]).await
    }

    /// Changes a setting.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_setting(&self, name: &str, change: &ChangeSetting) -> Result<SettingView, ClientError> {
        self.change(Method::PUT, &["settings", name], change).await
    }

    async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let request = self.transport.request(method, self.transport.url(segments)).json(body);
        self.transport.answer(request, Duration::ZERO).await
    }
}

fn experiment<'a>(name: &'a ExperimentName, rest: &[&'a str]) -> Vec<&'a str> {
    let mut segments = vec!["experiments", name.pid.as_str(), name.eid.as_str()];
    segments.extend_from_slice(rest);
    segments
}
