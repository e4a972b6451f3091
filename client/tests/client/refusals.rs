//! What must never reach a disk: each is refused as corrupt, and the disk is byte for byte what it was.

use std::os::unix::fs::MetadataExt as _;

use boss_api::agent::{ObjectRef, Permit, WriteOrder};
use client::agent::memory::Memory;
use client::agent::permit::{Identity, VerifiedPermit};
use proptest::prelude::*;
use sigs::seal::{SealKind, Sealed, SigningKey, TrustedKeys};
use sigs::{ByteLen, Root};

use crate::fake_boss::EPOCH;
use crate::fixture::{DISK_BYTES, Delta, Node, admin_key, boss_key, content, fresh, name, noise, seal_permit};

/// Orders a write and checks that it is refused for the right reason, with the disk untouched.
fn refused(node: &Node, what: &str, order: &WriteOrder, because: &str) {
    let before = node.disk();
    let stat = std::fs::metadata(node.path("sda.img")).unwrap();
    node.order_write(order);
    let reason = node.boss.refusal(order.write);
    assert!(reason.contains(because), "{what}: {reason}");
    let now = std::fs::metadata(node.path("sda.img")).unwrap();
    assert_eq!(
        (now.mtime(), now.mtime_nsec()),
        (stat.mtime(), stat.mtime_nsec()),
        "{what}: the disk was opened and written"
    );
    assert!(node.disk() == before, "{what}: the disk was changed");
}

#[test]
fn permits_for_anything_else_are_refused() {
    let mut node = Node::new(&noise(20, DISK_BYTES));
    let base = node.base("base", &content(20));
    node.boot();
    node.wait_registered();
    let other_key = SigningKey::from_seed(&[9; 32]);
    let changed = |change: &dyn Fn(&mut Permit)| {
        let order = node.write_order(&base);
        let mut permit = node.permit(order.write);
        change(&mut permit);
        WriteOrder { permit: seal_permit(&permit), ..order }
    };
    let other_disk = node.path("sda.img.serial");
    refused(&node, "serial", &changed(&|permit| permit.serial = "EBB-TEST-2".into()), "serial");
    refused(&node, "size", &changed(&|permit| permit.bytes = ByteLen::new(permit.bytes.get() - 512)), "bytes");
    refused(&node, "earlier epoch", &changed(&|permit| permit.epoch = EPOCH - 1), "epoch");
    refused(&node, "later epoch", &changed(&|permit| permit.epoch = EPOCH + 1), "epoch");
    refused(&node, "node", &changed(&|permit| permit.node = name("pc2")), "node");
    refused(&node, "job", &changed(&|permit| permit.job = boss_api::ids::JobId::new(fresh())), "job");
    refused(&node, "write", &changed(&|permit| permit.write = boss_api::ids::WriteId::new(fresh())), "write");

    let resealed = |seal: &dyn Fn(String) -> Sealed| {
        let order = node.write_order(&base);
        WriteOrder { permit: seal(order.permit.statement.clone()), ..order }
    };
    let unsealed =
        resealed(&|statement| Sealed { seals: Vec::new(), ..Sealed::sign(SealKind::Permit, statement, &boss_key()) });
    refused(&node, "unsealed", &unsealed, "no seal by a trusted key");
    let foreign = resealed(&|statement| Sealed::sign(SealKind::Permit, statement, &other_key));
    refused(&node, "another key", &foreign, "no seal by a trusted key");
    let by_admin = resealed(&|statement| Sealed::sign(SealKind::Permit, statement, &admin_key()));
    refused(&node, "an admin's key", &by_admin, "no seal by a trusted key");
    let other_kind = resealed(&|statement| Sealed::sign(SealKind::SwapPoint, statement, &boss_key()));
    refused(&node, "another kind", &other_kind, "kind");
    let relabelled = resealed(&|statement| Sealed {
        kind: SealKind::Permit,
        ..Sealed::sign(SealKind::SwapPoint, statement, &boss_key())
    });
    refused(&node, "another kind, relabelled", &relabelled, "does not fit");

    // The disk is exchanged after boss made its permit.
    std::fs::write(other_disk, "EBB-TEST-3\n").unwrap();
    refused(&node, "another disk", &node.write_order(&base), "serial");
    std::fs::write(node.path("sda.img.serial"), crate::fixture::SERIAL).unwrap();

    // And after all of that the right one passes, once.
    let good = node.write_order(&base);
    node.order_write(&good);
    assert!(node.boss.outcome(good.write).is_ok());
    assert_eq!(node.disk(), content(20));
}

#[test]
fn base_images_that_an_admin_did_not_seal_like_this_are_refused() {
    let mut node = Node::new(&noise(21, DISK_BYTES));
    let base = node.base("base", &content(21));
    let other = node.base("other", &content(22));
    node.boot();
    node.wait_registered();
    let with_seal = |sealed: Sealed| {
        let mut order = node.write_order(&base);
        order.image = Some(boss_api::agent::ImageOrder { zdi: base.zdi.clone(), sealed });
        order
    };
    // A key that is retired is not in the boot parameters any more: to the agent it is as unknown as any other.
    let unknown = base.sealed(&SigningKey::from_seed(&[9; 32]));
    refused(&node, "unknown or retired key", &with_seal(unknown), "no seal by a trusted key");
    refused(&node, "boss's key", &with_seal(base.sealed(&boss_key())), "no seal by a trusted key");
    refused(&node, "seal of another image", &with_seal(other.sealed(&admin_key())), "digest of the base image");
    let mut altered = base.sealed(&admin_key());
    altered.statement = altered.statement.replace("\"base\"", "\"bass\"");
    refused(&node, "statement altered", &with_seal(altered), "does not fit");
    let wrong_kind = Sealed::sign(SealKind::Permit, serde_json::to_string(&base.statement).unwrap(), &admin_key());
    refused(&node, "seal of another kind", &with_seal(wrong_kind), "kind");

    let wrong_root = WriteOrder { target_root: Some(other.root), ..node.write_order(&base) };
    refused(&node, "another root ordered", &wrong_root, "root of the base image");
    let no_root = WriteOrder { target_root: None, ..node.write_order(&base) };
    refused(&node, "no root ordered", &no_root, "contradicts itself");

    // Altered after it was registered: what arrives is not what was sealed.
    let mut bytes = base.zdi_bytes.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    node.boss.known().objects.insert(base.zdi.digest, bytes);
    refused(&node, "image altered", &node.write_order(&base), "fetch an image");
    let mut short = base.zdi_bytes.clone();
    short.pop();
    node.boss.known().objects.insert(base.zdi.digest, short);
    refused(&node, "image cut short", &node.write_order(&base), "fetch an image");
    node.boss.known().objects.insert(base.zdi.digest, base.zdi_bytes.clone());

    // Sealed, but the root that the admin sealed is not that of the file.
    let mut lying = base.statement.clone();
    lying.target_root = other.root;
    let lying = Sealed::sign(SealKind::Base, serde_json::to_string(&lying).unwrap(), &admin_key());
    let order = WriteOrder { target_root: Some(other.root), ..with_seal(lying) };
    refused(&node, "root of another image sealed", &order, "root");
}

#[test]
fn saved_states_that_boss_did_not_seal_like_this_are_refused() {
    let base_content = content(23);
    let mut node = Node::new(&base_content);
    let base = node.base("base", &base_content);
    let other = node.base("other", &content(24));
    let mut saved = base_content.clone();
    saved[3 << 20..4 << 20].copy_from_slice(&noise(7, 1 << 20));
    node.set_disk(&saved);
    node.boot();
    node.wait_registered();
    let delta = node.capture_delta(&base);
    let with = |change: &dyn Fn(&mut Delta)| {
        let mut changed = Delta {
            zdi: delta.zdi.clone(),
            capture: delta.capture,
            root: delta.root,
            statement: delta.statement.clone(),
        };
        change(&mut changed);
        WriteOrder { delta: Some(changed.order()), target_root: Some(delta.root), ..node.write_order(&base) }
    };
    let other_capture = boss_api::ids::CaptureId::new(fresh());
    refused(
        &node,
        "a capture it does not have",
        &with(&|delta| delta.capture = other_capture),
        "does not have the capture",
    );
    refused(
        &node,
        "another file",
        &with(&|delta| delta.zdi = ObjectRef { digest: base.zdi.digest, bytes: delta.zdi.bytes }),
        "digest of the delta image",
    );
    let zero = Root::from_bytes([0; 32]);
    refused(
        &node,
        "another root",
        &with(&|delta| delta.statement.captures[0].target_root = zero),
        "root of the saved state",
    );
    refused(
        &node,
        "another base sealed",
        &with(&|delta| delta.statement.captures[0].base_root = Some(zero)),
        "root of the base",
    );
    let other_base = WriteOrder { image: Some(other.order()), ..with(&|_| {}) };
    refused(&node, "another base ordered", &other_base, "root of the base");
    let no_base = WriteOrder { image: None, ..with(&|_| {}) };
    refused(&node, "no base ordered", &no_base, "root of the base");
    let mut by_admin = with(&|_| {});
    let statement = serde_json::to_string(&delta.statement).unwrap();
    if let Some(delta) = &mut by_admin.delta {
        delta.sealed = Sealed::sign(SealKind::SwapPoint, statement, &admin_key());
    }
    refused(&node, "sealed by an admin", &by_admin, "no seal by a trusted key");

    let good = with(&|_| {});
    node.order_write(&good);
    assert!(node.boss.outcome(good.write).is_ok());
    assert_eq!(node.disk(), saved);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever byte of a sealed permit changes, nothing opens for it.
    #[test]
    fn no_altered_permit_passes(place in any::<prop::sample::Index>(), flip in 1_u8..128) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sda.img");
        std::fs::write(&path, b"disk").unwrap();
        std::fs::write(folder.path().join("sda.img.serial"), "S").unwrap();
        let (write, job) = (boss_api::ids::WriteId::new(fresh()), boss_api::ids::JobId::new(fresh()));
        let permit = Permit {
            write,
            node: name("pc1"),
            serial: "S".into(),
            bytes: ByteLen::new(4),
            epoch: 1,
            term: 1,
            job,
            purpose: boss_api::agent::WritePurpose::Load,
            evidence: "a test".into(),
        };
        let sealed = seal_permit(&permit);
        let order = |permit: Sealed| WriteOrder {
            write,
            attempt: 1,
            permit,
            disk: name("sda"),
            image: None,
            delta: None,
            free: boss_api::agent::FreeTreatment::Zero,
            target_root: None,
        };
        let identity = Identity { node: name("pc1"), epoch: 1 };
        let memory = Memory::of_this_program();
        let trusted = TrustedKeys::new([boss_key().public()]);
        let check = |sealed: Sealed| {
            VerifiedPermit::check(&order(sealed), job, (&identity, &memory), &trusted, &path).is_ok()
        };
        prop_assert!(check(sealed.clone()));
        let mut bytes = sealed.to_bytes();
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        // The case of a hexadecimal digit is no part of what it means.
        let same = |altered: &Sealed| altered.to_bytes().eq_ignore_ascii_case(&sealed.to_bytes())
            && altered.statement == sealed.statement;
        if let Ok(altered) = Sealed::parse(&bytes) && !same(&altered) {
            prop_assert!(!check(altered));
        }
    }
}
