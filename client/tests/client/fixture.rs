//! A node with one disk, a sealed base image of it, and the agent as a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use boss_api::agent::{
    BootDisk, BootParameters, CaptureBase, CaptureOrder, CaptureStatement, DeltaOrder, FreeTreatment, ImageOrder,
    ObjectRef, PROTOCOL, Permit, SwapCommand, SwapPointStatement, Task, WriteOrder, WritePurpose,
};
use boss_api::ids::{CaptureId, ExperimentId, JobId, WriteId};
use boss_api::names::Name;
use client::imaging::make_image;
use imagezip::capture::CaptureOptions;
use imagezip::control::{Control, Progress};
use sigs::seal::{BaseStatement, SealKind, Sealed, SigningKey};
use sigs::zdi::{Contents, HEADER_BYTES, header_bytes};
use sigs::{ByteLen, ByteOffset, Digest, Root};
use uuid::Uuid;

use crate::fake_boss::{EPOCH, FakeBoss, TERM};

pub(crate) const SERIAL: &str = "EBB-TEST-1";
pub(crate) const DISK_BYTES: usize = 24 << 20;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn fresh() -> Uuid {
    Uuid::now_v7()
}

pub(crate) fn admin_key() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

pub(crate) fn boss_key() -> SigningKey {
    SigningKey::from_seed(&[2; 32])
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A disk: noise, zeros in the middle, noise.
pub(crate) fn content(seed: u64) -> Vec<u8> {
    let mut bytes = noise(seed, DISK_BYTES);
    bytes[6 << 20..9 << 20].fill(0);
    bytes
}

/// A base image and what goes with it.
pub(crate) struct BaseImage {
    pub(crate) zdi: ObjectRef,
    pub(crate) zdi_bytes: Vec<u8>,
    pub(crate) sig: ObjectRef,
    pub(crate) sig_path: PathBuf,
    pub(crate) root: Root,
    pub(crate) statement: BaseStatement,
}

impl BaseImage {
    pub(crate) fn order(&self) -> ImageOrder {
        ImageOrder { zdi: self.zdi.clone(), sealed: self.sealed(&admin_key()) }
    }

    pub(crate) fn sealed(&self, key: &SigningKey) -> Sealed {
        Sealed::sign(SealKind::Base, serde_json::to_string(&self.statement).unwrap(), key)
    }
}

pub(crate) fn object(bytes: &[u8]) -> ObjectRef {
    ObjectRef { digest: Digest::of(bytes), bytes: ByteLen::of(bytes) }
}

pub(crate) struct Node {
    pub(crate) boss: FakeBoss,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) job: JobId,
    agent: Option<Child>,
}

impl Node {
    pub(crate) fn new(disk: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("sda.img"), disk).unwrap();
        fs::write(folder.path().join("sda.img.serial"), format!("{SERIAL}\n")).unwrap();
        Self { boss: FakeBoss::start(), folder, job: JobId::new(fresh()), agent: None }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub(crate) fn disk(&self) -> Vec<u8> {
        fs::read(self.path("sda.img")).unwrap()
    }

    pub(crate) fn set_disk(&self, content: &[u8]) {
        fs::write(self.path("sda.img"), content).unwrap();
    }

    /// Makes a base image and gives its files to boss.
    pub(crate) fn base(&self, file: &str, content: &[u8]) -> BaseImage {
        let source = self.path(&format!("{file}.raw"));
        fs::write(&source, content).unwrap();
        let (zdi_path, sig_path) = (self.path(&format!("{file}.zdi")), self.path(&format!("{file}.sig")));
        let (progress, cancel) = (Progress::default(), AtomicBool::new(false));
        let control = Control { progress: &progress, cancel: &cancel };
        let options = CaptureOptions { level: 1, ..CaptureOptions::default() };
        let captured = make_image(&source, &zdi_path, &sig_path, &options, control, &mut |_| {}).unwrap();
        let (zdi_bytes, sig_bytes) = (fs::read(&zdi_path).unwrap(), fs::read(&sig_path).unwrap());
        let (zdi, sig) = (object(&zdi_bytes), object(&sig_bytes));
        let statement = BaseStatement {
            name: file.to_owned(),
            zdi: zdi.digest,
            zdi_bytes: zdi.bytes,
            sig: sig.digest,
            target_root: captured.target_root,
            manifest: String::from_utf8(captured.contents.manifest).unwrap(),
        };
        let mut known = self.boss.known();
        known.objects.insert(zdi.digest, zdi_bytes.clone());
        known.objects.insert(sig.digest, sig_bytes);
        BaseImage { zdi, zdi_bytes, sig, sig_path, root: captured.target_root, statement }
    }

    /// Starts the agent, and waits until it has registered.
    pub(crate) fn boot(&mut self) {
        let parameters = BootParameters {
            protocol: PROTOCOL,
            boss_url: self.boss.url(),
            node: name("pc1"),
            boot_token: "00".repeat(32),
            boss_keys: vec![boss_key().public().to_pem().unwrap()],
            base_keys: vec![admin_key().public().to_pem().unwrap()],
            disks: vec![BootDisk { name: name("sda"), path: self.path("sda.img").to_str().unwrap().to_owned() }],
        };
        let file = self.path("boot.json");
        fs::write(&file, serde_json::to_vec(&parameters).unwrap()).unwrap();
        let log = fs::File::create(self.path("agent.log")).unwrap();
        let agent = Command::new(env!("CARGO_BIN_EXE_node-agent"))
            .arg("--boot-parameters")
            .arg(&file)
            .arg("--work-dir")
            .arg(self.path("work"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agent = Some(agent);
    }

    pub(crate) fn wait_registered(&self) {
        self.boss.wait("the agent to register", |known| (!known.registered.is_empty()).then_some(()));
    }

    pub(crate) fn agent_pid(&self) -> i32 {
        i32::try_from(self.agent.as_ref().unwrap().id()).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }

    /// Ends the agent, at once.
    pub(crate) fn end_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// Waits for the agent's own end.
    pub(crate) fn wait_ended(&mut self) -> ExitStatus {
        let agent = self.agent.as_mut().unwrap();
        poll("the agent to end", || agent.try_wait().unwrap())
    }

    pub(crate) fn capture_order(&self, base: Option<&BaseImage>, attempt: u32) -> CaptureOrder {
        let bases = base.map(|base| CaptureBase { sig: base.sig.clone(), root: base.root });
        CaptureOrder {
            capture: CaptureId::new(fresh()),
            attempt,
            disk: name("sda"),
            serial: SERIAL.to_owned(),
            bytes: ByteLen::new(u64::try_from(DISK_BYTES).unwrap()),
            bases: bases.into_iter().collect(),
        }
    }

    pub(crate) fn capture_task(&self, program: &str, order: &CaptureOrder) -> Task {
        let command = SwapCommand { program: program.to_owned(), zstd_level: 1 };
        Task::Capture { job: self.job, command, orders: vec![order.clone()] }
    }

    pub(crate) fn permit(&self, write: WriteId) -> Permit {
        Permit {
            write,
            node: name("pc1"),
            serial: SERIAL.to_owned(),
            bytes: ByteLen::new(u64::try_from(DISK_BYTES).unwrap()),
            epoch: EPOCH,
            term: TERM,
            job: self.job,
            purpose: WritePurpose::Load,
            evidence: "a test".to_owned(),
        }
    }

    /// An order that is right in every respect: load a base image.
    pub(crate) fn write_order(&self, base: &BaseImage) -> WriteOrder {
        let write = WriteId::new(fresh());
        WriteOrder {
            write,
            attempt: 1,
            permit: seal_permit(&self.permit(write)),
            disk: name("sda"),
            image: Some(base.order()),
            delta: None,
            free: FreeTreatment::Zero,
            target_root: Some(base.root),
        }
    }

    pub(crate) fn order_write(&self, order: &WriteOrder) {
        self.boss.order(Task::Write { job: self.job, orders: vec![order.clone()] });
    }

    /// Captures the disk against a base, and gives the delta image to boss as boss would have stored it.
    pub(crate) fn capture_delta(&self, base: &BaseImage) -> Delta {
        let order = self.capture_order(Some(base), 1);
        self.boss.order(self.capture_task("create-swapimage", &order));
        let contents = self.boss.wait("the end of the capture", |known| {
            assert!(known.capture_failures.is_empty(), "{:?}", known.capture_failures);
            known.finished.iter().find(|(id, ..)| *id == order.capture).map(|(_, _, contents)| contents.clone())
        });
        let zdi_bytes = assemble(&self.boss, &contents);
        let zdi = object(&zdi_bytes);
        self.boss.known().objects.insert(zdi.digest, zdi_bytes);
        let manifest = sigs::manifest::Manifest::parse(&contents.manifest).unwrap();
        let statement = SwapPointStatement {
            pid: name("p"),
            eid: name("e"),
            experiment: ExperimentId::new(fresh()),
            number: 1,
            captures: vec![CaptureStatement {
                capture: order.capture,
                vname: name("client"),
                disk: name("sda"),
                zdi: zdi.digest,
                zdi_bytes: zdi.bytes,
                base_root: Some(base.root),
                target_root: manifest.target_root,
            }],
        };
        Delta { zdi, capture: order.capture, root: manifest.target_root, statement }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the agent said:\n{}", self.log());
        }
        if let Some(mut agent) = self.agent.take() {
            drop(agent.kill());
            drop(agent.wait());
        }
    }
}

/// A saved state as boss sealed it.
pub(crate) struct Delta {
    pub(crate) zdi: ObjectRef,
    pub(crate) capture: CaptureId,
    pub(crate) root: Root,
    pub(crate) statement: SwapPointStatement,
}

impl Delta {
    pub(crate) fn order(&self) -> DeltaOrder {
        let statement = serde_json::to_string(&self.statement).unwrap();
        let sealed = Sealed::sign(SealKind::SwapPoint, statement, &boss_key());
        DeltaOrder { zdi: self.zdi.clone(), capture: self.capture, sealed }
    }
}

pub(crate) fn seal_permit(permit: &Permit) -> Sealed {
    Sealed::sign(SealKind::Permit, serde_json::to_string(permit).unwrap(), &boss_key())
}

/// Puts an image together from the frames that boss has.
pub(crate) fn assemble(boss: &FakeBoss, contents: &Contents) -> Vec<u8> {
    let known = boss.known();
    let mut file = header_bytes().to_vec();
    let mut placement = Vec::new();
    let mut end = HEADER_BYTES;
    for frame in &contents.frames {
        let stored = &known.frames[&frame.digest];
        placement.push(ByteOffset::new(end));
        file.extend_from_slice(stored);
        end += ByteLen::of(stored).get();
    }
    file.extend_from_slice(&contents.encode_tail(&placement, ByteOffset::new(end)));
    file
}

/// Asks again and again until there is an answer, or a minute has passed.
pub(crate) fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Writes a script that runs.
pub(crate) fn script(path: &Path, body: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}
