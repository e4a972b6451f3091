//! Base images: what is believed, and what is not. Real keys, real files.

use axum::http::{Method, StatusCode};
use boss_api::user::UserRole;
use boss_db::{PgPool, keys};
use serde_json::{Value, json};
use sigs::manifest::{ImageKind, Manifest, ManifestFormat};
use sigs::map::Geometry;
use sigs::seal::{BaseStatement, SealKind, Sealed, SigningKey};
use sigs::zdi::{self, Contents};
use sigs::{
    BlockCount, BlockCounts, BlockSize, BlockState, ByteLen, ByteOffset, ByteRange, ChunkIndex, ChunkState, Digest,
    SectorSize, SignatureWriter,
};

use crate::test_support::{Answer, TestApp};

/// A small image of zeros, as `imagezip` would make it, and its signature.
struct Sample {
    zdi: Vec<u8>,
    sig: Vec<u8>,
    statement: BaseStatement,
}

fn sample(chunks: u64) -> Sample {
    let geometry = Geometry {
        disk_bytes: ByteLen::new(chunks << 20),
        sector_size: SectorSize::S512,
        block_size: BlockSize::DEFAULT,
    };
    let mut writer = SignatureWriter::new(Vec::new(), geometry).unwrap();
    for chunk in 0..geometry.chunks() {
        let blocks = geometry.blocks_in_chunk(ChunkIndex::new(chunk)).unwrap();
        let states: Vec<BlockState> =
            (0..blocks).map(|block| if block % 2 == 0 { BlockState::Zero } else { BlockState::Free }).collect();
        writer.push(&ChunkState::from_states(&states)).unwrap();
    }
    let (sig, _, root) = writer.finish().unwrap();
    let half = geometry.blocks().get() / 2;
    let mut contents = Contents {
        frames: Vec::new(),
        stored_map: b"a map is not looked into here".to_vec(),
        map_bytes: ByteLen::new(64),
        manifest: Vec::new(),
    };
    let manifest = Manifest {
        format: ManifestFormat::CURRENT,
        kind: ImageKind::Full,
        geometry,
        min_disk_bytes: geometry.disk_bytes,
        hash: "sha256".into(),
        base_roots: Vec::new(),
        target_root: root,
        counts: BlockCounts {
            data: BlockCount::new(0),
            zero: BlockCount::new(half),
            free: BlockCount::new(geometry.blocks().get() - half),
        },
        stored_blocks: BlockCount::new(0),
        frame_table: Digest::of(&zdi::encode_frame_table(&[])),
        map: Digest::of(&contents.stored_map),
        zstd_level: 3,
        partitions: Vec::new(),
        bad_sectors: Some(Vec::new()),
        tool: "tests".into(),
    };
    contents.manifest = manifest.to_bytes();
    let header = zdi::header_bytes();
    let mut image = header.to_vec();
    image.extend(contents.encode_tail(&[], ByteOffset::new(ByteLen::of(&header).get())));
    let statement = BaseStatement {
        name: "debian".into(),
        zdi: Digest::of(&image),
        zdi_bytes: ByteLen::of(&image),
        sig: Digest::of(&sig),
        target_root: root,
        manifest: String::from_utf8(contents.manifest).unwrap(),
    };
    Sample { zdi: image, sig, statement }
}

fn seal(statement: &BaseStatement, key: &SigningKey) -> Sealed {
    Sealed::sign(SealKind::Base, serde_json::to_string(statement).unwrap(), key)
}

struct Desk {
    site: TestApp,
    token: String,
    key: SigningKey,
}

impl Desk {
    async fn new(pool: PgPool) -> Self {
        let site = TestApp::new(pool).await;
        let root = site.user("root", UserRole::Admin, &[]).await;
        site.project("system").await;
        let desk = Self { token: site.token(&root).await, site, key: SigningKey::from_seed(&[1; 32]) };
        desk.trust(&desk.key).await;
        desk
    }

    async fn trust(&self, key: &SigningKey) {
        let mut conn = self.site.app.pool.acquire().await.unwrap();
        let public = key.public();
        let pem = public.to_pem().unwrap();
        keys::add(&mut conn, public.id(), &pem, "for tests", self.site.app.now()).await.unwrap();
    }

    async fn store(&self, bytes: &[u8]) {
        let reader = Box::pin(std::io::Cursor::new(bytes.to_vec()));
        self.site.app.store.put_if_absent(Digest::of(bytes), ByteLen::new(1 << 30), reader).await.unwrap();
    }

    async fn register(&self, sealed: &Sealed) -> Answer {
        let sealed = String::from_utf8(sealed.to_bytes()).unwrap();
        let body = json!({ "project": "system", "name": "debian", "sealed": sealed });
        self.site.api(Method::POST, "images", Some(&self.token), Some(body)).await
    }

    async fn refused(&self, sealed: &Sealed, words: &str) {
        let answer = self.register(sealed).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text);
        assert_eq!(answer.code(), "verification_failed");
        assert!(answer.text.contains(words), "{words:?} is not in {}", answer.text);
        let list = self.site.api(Method::GET, "images", Some(&self.token), None).await;
        assert_eq!(list.json(), json!([]), "nothing was registered");
    }
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn a_sealed_image_is_registered_once_for_each_content(pool: PgPool) {
    let desk = Desk::new(pool).await;
    let (first, second) = (sample(3), sample(4));
    for bytes in [&first.zdi, &first.sig, &second.zdi, &second.sig] {
        desk.store(bytes).await;
    }
    let sealed = seal(&first.statement, &desk.key);
    let made = desk.register(&sealed).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let view = made.json();
    assert_eq!(view["versions"][0]["version"], 1);
    assert_eq!(view["versions"][0]["root"], json!(first.statement.target_root));
    assert_eq!(view["versions"][0]["key"], json!(desk.key.public().id()));
    assert_eq!(view["versions"][0]["disk_bytes"], 3 << 20);
    let again = desk.register(&sealed).await;
    assert_eq!(again.status, StatusCode::OK, "the same upload sent again is the version it was");
    assert_eq!(again.json(), view);
    let next = desk.register(&seal(&second.statement, &desk.key)).await;
    let versions: Vec<Value> =
        next.json()["versions"].as_array().unwrap().iter().map(|version| version["version"].clone()).collect();
    assert_eq!(json!(versions), json!([2, 1]), "newest first");

    let retire = async || desk.site.api(Method::POST, "images/system/debian/2/retire", Some(&desk.token), None).await;
    assert_eq!(retire().await.json()["versions"][0]["retired"], true);
    assert_eq!(retire().await.code(), "wrong_state");
    let none = desk.site.api(Method::POST, "images/system/debian/9/retire", Some(&desk.token), None).await;
    assert_eq!(none.code(), "not_found");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn only_a_key_that_is_trusted_now_counts(pool: PgPool) {
    let desk = Desk::new(pool).await;
    let good = sample(3);
    desk.store(&good.zdi).await;
    desk.store(&good.sig).await;
    let stranger = SigningKey::from_seed(&[2; 32]);
    desk.refused(&seal(&good.statement, &stranger), "is not known here").await;

    let former = SigningKey::from_seed(&[3; 32]);
    desk.trust(&former).await;
    let mut conn = desk.site.app.pool.acquire().await.unwrap();
    keys::retire(&mut conn, former.public().id(), desk.site.app.now()).await.unwrap();
    desk.refused(&seal(&good.statement, &former), "is retired").await;

    // The name of a trusted key over the signature of another.
    let mut borrowed = seal(&good.statement, &stranger);
    borrowed.seals[0].key = desk.key.public().id();
    desk.refused(&borrowed, "does not fit the statement").await;

    let mut altered = seal(&good.statement, &desk.key);
    altered.statement = altered.statement.replace("\"tests\\\"", "\"tests2\\\"");
    assert_ne!(altered, seal(&good.statement, &desk.key));
    desk.refused(&altered, "does not fit the statement").await;

    let permit = Sealed::sign(SealKind::Permit, serde_json::to_string(&good.statement).unwrap(), &desk.key);
    desk.refused(&permit, "of kind").await;
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn the_files_must_be_those_that_were_sealed(pool: PgPool) {
    let desk = Desk::new(pool).await;
    let (good, other) = (sample(3), sample(4));
    let sealed = seal(&good.statement, &desk.key);
    desk.refused(&sealed, "is not in the store").await;
    desk.store(&good.zdi).await;
    desk.refused(&sealed, "signature").await;
    for bytes in [&good.sig, &other.zdi, &other.sig] {
        desk.store(bytes).await;
    }

    let with = |change: &dyn Fn(&mut BaseStatement)| {
        let mut statement = good.statement.clone();
        change(&mut statement);
        seal(&statement, &desk.key)
    };
    let of_other =
        with(&|statement| (statement.zdi, statement.zdi_bytes) = (other.statement.zdi, other.statement.zdi_bytes));
    desk.refused(&of_other, "the manifest inside the image is not the one that was sealed").await;
    desk.refused(&with(&|statement| statement.sig = other.statement.sig), "not that of the sealed state").await;
    desk.refused(&with(&|statement| statement.sig = good.statement.zdi), "not that of the sealed state").await;
    desk.refused(&with(&|statement| statement.zdi_bytes = ByteLen::new(1)), "its seal says 1").await;
    desk.refused(
        &with(&|statement| statement.target_root = other.statement.target_root),
        "its manifest is of the state",
    )
    .await;
    desk.refused(&with(&|statement| statement.name = "other".into()), "was sealed for the name").await;
    desk.refused(&with(&|statement| statement.manifest = "{}".into()), "its manifest is malformed").await;
    let delta = with(&|statement| {
        let mut manifest = Manifest::parse(statement.manifest.as_bytes()).unwrap();
        manifest.kind = ImageKind::Delta;
        manifest.base_roots = vec![other.statement.target_root];
        statement.manifest = String::from_utf8(manifest.to_bytes()).unwrap();
    });
    desk.refused(&delta, "only a full image").await;
    let incomplete = with(&|statement| {
        let mut manifest = Manifest::parse(statement.manifest.as_bytes()).unwrap();
        manifest.bad_sectors = Some(vec![ByteRange { start: ByteOffset::new(4096), len: ByteLen::new(512) }]);
        statement.manifest = String::from_utf8(manifest.to_bytes()).unwrap();
    });
    desk.refused(&incomplete, "from offset 4096 on").await;

    let damaged = b"not an image at all, but stored".to_vec();
    desk.store(&damaged).await;
    let of_damaged =
        with(&|statement| (statement.zdi, statement.zdi_bytes) = (Digest::of(&damaged), ByteLen::of(&damaged)));
    desk.refused(&of_damaged, "its image is damaged").await;
    assert_eq!(desk.register(&sealed).await.status, StatusCode::CREATED, "and the right ones are taken");
}

#[sqlx::test(migrator = "boss_db::MIGRATOR")]
async fn what_is_not_a_sealed_file_is_refused_as_such(pool: PgPool) {
    let desk = Desk::new(pool).await;
    for text in
        ["", "{}", "nonsense", "{\"format\":\"ebb.sealed/9\",\"kind\":\"base\",\"statement\":\"\",\"seals\":[]}"]
    {
        let body = json!({ "project": "system", "name": "debian", "sealed": text });
        let answer = desk.site.api(Method::POST, "images", Some(&desk.token), Some(body)).await;
        assert_eq!(answer.code(), "verification_failed", "{text}");
    }
}
