//! An agent that does exactly what the test says, and what it sends of a disk.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use boss_api::agent::{
    BootDisk, BootParameters, CaptureOrder, CaptureProgress, FoundDisk, Lacking, Offer, PROTOCOL, Poll, Register, Task,
    WriteDone,
};
use boss_api::{ApiError, ErrorCode};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use sigs::zdi::{Container, Contents};
use sigs::{ByteLen, Digest, Root, SectorSize};
use tower::ServiceExt as _;

use crate::site::{PATIENCE, golden};

/// An agent of one boot of a machine.
#[derive(Clone)]
pub(crate) struct Agent {
    router: Router,
    pub(crate) parameters: BootParameters,
    node: String,
    bytes: ByteLen,
    secret: [u8; 32],
    /// Whether it asks again, as a real one does, when boss cannot answer now.
    persists: bool,
}

impl Agent {
    /// The one that was booted with these parameters on a machine whose disks have so many bytes; not registered yet.
    pub(crate) fn booted(router: Router, parameters: BootParameters, node: &str, bytes: ByteLen) -> Self {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).unwrap();
        Self { router, parameters, node: node.into(), bytes, secret, persists: false }
    }

    pub(crate) fn with_another_secret(&self) -> Self {
        Self { secret: [9; 32], ..self.clone() }
    }

    pub(crate) fn persistent(self) -> Self {
        Self { persists: true, ..self }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Vec<u8>, ApiError> {
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            match self.send_once(method.clone(), path, body.clone()).await {
                Err(error) if self.persists && error.code == ErrorCode::Unavailable => {
                    assert!(tokio::time::Instant::now() < patience, "{path}: {}", error.message);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                answer => return answer,
            }
        }
    }

    async fn send_once(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Vec<u8>, ApiError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/agent/v1/{path}"))
            .header("authorization", format!("Bearer {}", hex::encode(self.secret)))
            .body(Body::from(body))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes().to_vec();
        if status.is_success() {
            return Ok(bytes);
        }
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("{path}: {status} {bytes:?}")))
    }

    pub(crate) async fn post(&self, path: &str, body: &impl serde::Serialize) -> Result<Vec<u8>, ApiError> {
        self.send(Method::POST, path, serde_json::to_vec(body).unwrap()).await
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str, body: &impl serde::Serialize) -> Result<T, ApiError> {
        Ok(serde_json::from_slice(&self.post(path, body).await?).unwrap())
    }

    pub(crate) async fn register(&self) -> Result<(), ApiError> {
        self.register_as(|disk| serial(&self.node, disk)).await
    }

    pub(crate) async fn register_with(&self, serial: &str) -> Result<(), ApiError> {
        self.register_as(|_| serial.to_owned()).await
    }

    async fn register_as(&self, serial: impl Fn(&str) -> String) -> Result<(), ApiError> {
        let found = |disk: &BootDisk| FoundDisk {
            name: disk.name.clone(),
            serial: serial(disk.name.as_str()),
            bytes: self.bytes,
            sector_size: SectorSize::S512,
        };
        let register = Register {
            protocol: PROTOCOL,
            boot_token: self.parameters.boot_token.clone(),
            secret_hash: Digest::of(&self.secret),
            disks: self.parameters.disks.iter().map(found).collect(),
        };
        self.post("register", &register).await.map(drop)
    }

    pub(crate) async fn poll(&self) -> Result<Task, ApiError> {
        self.ask("poll", &Poll { wait_ms: 0 }).await
    }

    /// Waits for something to do.
    pub(crate) async fn task(&self) -> Task {
        let asked: Result<Task, _> = self.ask("poll", &Poll { wait_ms: 20_000 }).await;
        let task = asked.unwrap();
        assert_ne!(task, Task::Idle, "nothing to do for {}", self.node);
        task
    }

    /// Waits for a write, fetches what it names, and says that it is done.
    pub(crate) async fn write_all(&self) {
        let Task::Write { orders, .. } = self.task().await else { panic!("not a write") };
        for order in orders {
            let objects = order.image.iter().map(|image| &image.zdi).chain(order.delta.iter().map(|delta| &delta.zdi));
            for object in objects {
                let bytes = self.send(Method::GET, &format!("objects/{}", object.digest), vec![]).await.unwrap();
                assert_eq!(Digest::of(&bytes), object.digest);
            }
            self.post(&format!("writes/{}/done", order.write), &WriteDone { root: order.target_root }).await.unwrap();
        }
    }

    /// Waits for the order to save the only disk.
    pub(crate) async fn order(&self) -> CaptureOrder {
        let Task::Capture { mut orders, .. } = self.task().await else { panic!("not a capture") };
        assert_eq!(orders.len(), 1);
        orders.remove(0)
    }

    pub(crate) async fn begin(&self, order: &CaptureOrder) -> Result<(), ApiError> {
        self.post(&format!("{}/begin", path(order)), &serde_json::json!({})).await.map(drop)
    }

    pub(crate) async fn offer(&self, order: &CaptureOrder, upload: &Upload) -> Result<Vec<Digest>, ApiError> {
        let frames = upload.frames.iter().map(|(digest, _)| *digest).collect();
        let lacking: Lacking = self.ask(&format!("{}/offer", path(order)), &Offer { frames }).await?;
        Ok(lacking.frames)
    }

    pub(crate) async fn put(&self, order: &CaptureOrder, digest: Digest, bytes: Vec<u8>) -> Result<(), ApiError> {
        self.send(Method::PUT, &format!("{}/frames/{digest}", path(order)), bytes).await.map(drop)
    }

    pub(crate) async fn progress(&self, order: &CaptureOrder, scanned: u64) -> Result<(), ApiError> {
        let progress = CaptureProgress { scanned_bytes: scanned, total_bytes: 1 << 20, ..CaptureProgress::default() };
        self.post(&format!("{}/progress", path(order)), &progress).await.map(drop)
    }

    pub(crate) async fn finish(&self, order: &CaptureOrder, upload: &Upload) -> Result<(), ApiError> {
        self.send(Method::POST, &format!("{}/finish", path(order)), upload.contents.to_wire()).await.map(drop)
    }

    pub(crate) async fn fail(&self, order: &CaptureOrder, class: &str) -> Result<(), ApiError> {
        let failure = serde_json::json!({ "class": class, "reason": "the test says so" });
        self.post(&format!("{}/failed", path(order)), &failure).await.map(drop)
    }

    /// Saves the disk as an agent does when nothing goes wrong.
    pub(crate) async fn save(&self, upload: &Upload) {
        let order = self.order().await;
        self.begin(&order).await.unwrap();
        self.save_begun(&order, upload).await;
    }

    pub(crate) async fn save_begun(&self, order: &CaptureOrder, upload: &Upload) {
        let lacking = self.offer(order, upload).await.unwrap();
        for (digest, bytes) in &upload.frames {
            if lacking.contains(digest) {
                self.put(order, *digest, bytes.clone()).await.unwrap();
            }
        }
        self.finish(order, upload).await.unwrap();
    }
}

/// The serial number of a disk.
pub(crate) fn serial(node: &str, disk: &str) -> String {
    format!("S-{node}-{disk}")
}

fn path(order: &CaptureOrder) -> String {
    format!("captures/{}/{}", order.capture, order.attempt)
}

/// What an agent sends of a disk.
pub(crate) struct Upload {
    pub(crate) frames: Vec<(Digest, Vec<u8>)>,
    pub(crate) contents: Contents,
    pub(crate) root: Root,
}

impl Upload {
    /// The golden delta.
    pub(crate) fn delta() -> Self {
        Self::of(golden("delta.zdi"))
    }

    /// A full image: it refers to no base.
    pub(crate) fn full() -> Self {
        Self::of(golden("base.zdi"))
    }

    /// A delta of a disk with sectors that could not be read.
    pub(crate) fn incomplete() -> Self {
        Self::of(golden("v2-incomplete.zdi"))
    }

    fn of(file: Vec<u8>) -> Self {
        let container = Container::open(file).unwrap();
        let mut frames = Vec::new();
        for number in 0..u32::try_from(container.contents().frames.len()).unwrap() {
            let mut bytes = Vec::new();
            let record = container.read_frame(number, &mut bytes).unwrap();
            frames.push((record.digest, bytes));
        }
        Self { frames, contents: container.contents().clone(), root: container.manifest().target_root }
    }
}
