//! Everything that is checked before a base image is believed: its seal, its two files, and that they belong together.
//! Each refusal has its own sentence.

use std::sync::Arc;

use boss_api::ErrorCode;
use boss_api::user::RegisterImage;
use boss_db::keys::{self, Key};
use sigs::manifest::{ImageKind, Manifest};
use sigs::seal::{BaseStatement, KeyId, PublicKey, SealError, SealKind, Sealed, TrustedKeys};
use sigs::zdi::Container;
use sigs::{ByteLen, Digest, ReadAt, Signature};

use crate::app::App;
use crate::error::AppError;

/// A base image that may be registered.
#[derive(Debug)]
pub(super) struct Checked {
    /// What was sealed.
    pub(super) statement: BaseStatement,
    /// What the image is.
    pub(super) manifest: Manifest,
    /// The size of the signature file.
    pub(super) sig_bytes: ByteLen,
    /// Who sealed it.
    pub(super) key: KeyId,
}

fn refuse(why: impl std::fmt::Display) -> AppError {
    AppError::new(ErrorCode::VerificationFailed, format!("the image was not registered: {why}"))
}

/// Checks a registration.
///
/// # Errors
/// [`AppError`] verification failed, with what is wrong.
pub(super) async fn base_image(app: &App, request: &RegisterImage) -> Result<Checked, AppError> {
    let keys = keys::all(&mut *app.pool.acquire().await?).await?;
    let (statement, key) = open_seal(request, &keys)?;
    let manifest = sealed_manifest(&statement, request)?;

    let zdi_bytes = size_of(app, "image", statement.zdi).await?;
    if zdi_bytes != statement.zdi_bytes {
        let said = statement.zdi_bytes;
        return Err(refuse(format_args!("the stored image has {zdi_bytes} bytes, its seal says {said}")));
    }
    let sig_bytes = size_of(app, "signature", statement.sig).await?;
    let zdi = app.store.open(statement.zdi, false).await?;
    let sig = app.store.open(statement.sig, false).await?;
    let checked = Checked { statement, manifest, sig_bytes, key };
    let done = tokio::task::spawn_blocking(move || check_files(zdi, sig, &checked).map(|()| checked));
    done.await.map_err(AppError::internal)?
}

/// Opens the seal with the keys an admin trusted here, and no others.
fn open_seal(request: &RegisterImage, keys: &[Key]) -> Result<(BaseStatement, KeyId), AppError> {
    let mut trusted = Vec::new();
    for key in keys.iter().filter(|key| key.retired_at.is_none()) {
        trusted.push(PublicKey::from_pem(&key.public_pem).map_err(AppError::internal)?);
    }
    let ids: Vec<KeyId> = trusted.iter().map(PublicKey::id).collect();
    let sealed = Sealed::parse(request.sealed.as_bytes())
        .map_err(|error| refuse(format_args!("its sealed file is not one ({})", chain(&error))))?;
    let text = sealed.verify(SealKind::Base, &TrustedKeys::new(trusted)).map_err(|error| match error {
        SealError::Untrusted { .. } => untrusted(&sealed, keys),
        SealError::Forged { key } => refuse(format_args!(
            "the seal by key {key} does not fit the statement: the statement was altered, or the seal is another's"
        )),
        other => refuse(chain(&other)),
    })?;
    let statement: BaseStatement = serde_json::from_str(text)
        .map_err(|error| refuse(format_args!("what was sealed does not describe a base image: {error}")))?;
    let key = sealed.seals.iter().map(|seal| seal.key).find(|key| ids.contains(key));
    let key = key.ok_or_else(|| untrusted(&sealed, keys))?;
    Ok((statement, key))
}

fn untrusted(sealed: &Sealed, keys: &[Key]) -> AppError {
    let retired = keys.iter().find(|key| sealed.seals.iter().any(|seal| seal.key == key.id));
    match retired {
        Some(key) => refuse(format_args!("the key {} that sealed it is retired; seal it with another key", key.id)),
        None => {
            let found: Vec<String> = sealed.seals.iter().map(|seal| seal.key.to_string()).collect();
            let found = found.join(", ");
            refuse(format_args!(
                "the key {found} that sealed it is not known here; an admin adds it by `boss admin key add FILE.pub`"
            ))
        }
    }
}

fn sealed_manifest(statement: &BaseStatement, request: &RegisterImage) -> Result<Manifest, AppError> {
    if statement.name != request.name.as_str() {
        let (sealed, wanted) = (&statement.name, &request.name);
        return Err(refuse(format_args!("it was sealed for the name {sealed:?}, not for {wanted}")));
    }
    let manifest = Manifest::parse(statement.manifest.as_bytes())
        .map_err(|error| refuse(format_args!("its manifest is malformed ({})", chain(&error))))?;
    if manifest.kind != ImageKind::Full {
        return Err(refuse(format_args!("it is a {}, and only a full image can be a base image", manifest.kind)));
    }
    if let Some(first) = manifest.bad_sectors().first() {
        let at = first.start;
        return Err(refuse(format_args!(
            "it is incomplete: sectors of the disk it was made of could not be read, from offset {at} on"
        )));
    }
    if manifest.target_root != statement.target_root {
        let (said, held) = (statement.target_root, manifest.target_root);
        return Err(refuse(format_args!("its seal is for the state {said}, its manifest is of the state {held}")));
    }
    Ok(manifest)
}

async fn size_of(app: &App, what: &str, digest: Digest) -> Result<ByteLen, AppError> {
    app.store.head(digest).await?.ok_or_else(|| {
        refuse(format_args!(
            "its seal is for the {what} {digest}, which is not in the store: upload exactly that file first, or the \
             seal belongs to another image"
        ))
    })
}

/// The files are read: they must be what the sealed manifest says, all of the signature and the frame of the image.
fn check_files(zdi: Arc<dyn ReadAt>, sig: Arc<dyn ReadAt>, sealed: &Checked) -> Result<(), AppError> {
    let image =
        Container::open(zdi).map_err(|error| refuse(format_args!("its image is damaged ({})", chain(&error))))?;
    if image.contents().manifest != sealed.statement.manifest.as_bytes() {
        return Err(refuse("the manifest inside the image is not the one that was sealed"));
    }
    let signature = Signature::open_trusted(sig, sealed.statement.target_root)
        .and_then(|signature| signature.check_all().map(|()| signature))
        .map_err(|error| refuse(format_args!("its signature is not that of the sealed state ({})", chain(&error))))?;
    if *signature.geometry() != sealed.manifest.geometry {
        return Err(refuse("its signature is of a disk cut in another way than its manifest says"));
    }
    Ok(())
}

/// An error with its causes in one line: these are about the caller's bytes, so the caller may know.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
