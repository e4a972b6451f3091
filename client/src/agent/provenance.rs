//! Whether the images of an order are what an admin and boss sealed. Nothing is fetched before that is known.

use boss_api::agent::{CaptureStatement, DeltaOrder, ImageOrder, ObjectRef, SwapPointStatement, WriteOrder};
use sigs::Root;
use sigs::seal::{BaseStatement, SealError, SealKind, TrustedKeys};

/// Why the images of an order are refused. The disk is untouched.
#[derive(Debug, thiserror::Error)]
pub enum ProvenanceError {
    /// No good seal by a key that is trusted.
    #[error("the {what} is refused")]
    Seal {
        /// Base image or swap point.
        what: &'static str,
        /// Why.
        #[source]
        source: SealError,
    },
    /// Sealed, but not understood.
    #[error("what is sealed of the {what} is not understood")]
    Json {
        /// Base image or swap point.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The seal is of something else than what the order names.
    #[error("{what}: sealed is {sealed}, ordered is {ordered}")]
    Other {
        /// What differs.
        what: &'static str,
        /// What the seal says.
        sealed: String,
        /// What the order says.
        ordered: String,
    },
    /// The order contradicts itself.
    #[error("the order contradicts itself: {0}")]
    Order(&'static str),
}

/// What is to be on a disk in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Zeros.
    Zeros,
    /// A state, from these files.
    State {
        /// The image itself.
        image: ObjectRef,
        /// Its base, when it is a delta.
        base: Option<ObjectRef>,
        /// The root of the state.
        root: Root,
    },
}

/// Checks every seal of an order, and that each is of exactly the bytes that the order names.
///
/// # Errors
/// [`ProvenanceError`].
pub fn check(order: &WriteOrder, base_keys: &TrustedKeys, boss_keys: &TrustedKeys) -> Result<Wanted, ProvenanceError> {
    let base = order.image.as_ref().map(|image| Ok((image, check_base(image, base_keys)?))).transpose()?;
    let delta = order.delta.as_ref().map(|delta| Ok((delta, check_delta(delta, boss_keys)?))).transpose()?;
    let Some(ordered) = order.target_root else {
        return match (base, delta) {
            (None, None) => Ok(Wanted::Zeros),
            _ => Err(ProvenanceError::Order("images are named, and no root of what they give")),
        };
    };
    match (base, delta) {
        (None, None) => Err(ProvenanceError::Order("a root is named, and no image that gives it")),
        (Some((image, statement)), None) => {
            same("root of the base image", &statement.target_root, &ordered)?;
            Ok(Wanted::State { image: image.zdi.clone(), base: None, root: ordered })
        }
        (base, Some((delta, statement))) => {
            same("root of the saved state", &statement.target_root, &ordered)?;
            let given = base.as_ref().map(|(_, statement)| statement.target_root);
            same("root of the base of the saved state", &shown(statement.base_root), &shown(given))?;
            let base = base.map(|(image, _)| image.zdi.clone());
            Ok(Wanted::State { image: delta.zdi.clone(), base, root: ordered })
        }
    }
}

fn shown(root: Option<Root>) -> String {
    root.map_or_else(|| "none".to_owned(), |root| root.to_string())
}

fn check_base(order: &ImageOrder, keys: &TrustedKeys) -> Result<BaseStatement, ProvenanceError> {
    let what = "base image";
    let text = order.sealed.verify(SealKind::Base, keys).map_err(|source| ProvenanceError::Seal { what, source })?;
    let statement: BaseStatement =
        serde_json::from_str(text).map_err(|source| ProvenanceError::Json { what, source })?;
    same("digest of the base image", &statement.zdi, &order.zdi.digest)?;
    same("size of the base image", &statement.zdi_bytes, &order.zdi.bytes)?;
    Ok(statement)
}

fn check_delta(order: &DeltaOrder, keys: &TrustedKeys) -> Result<CaptureStatement, ProvenanceError> {
    let what = "swap point";
    let text =
        order.sealed.verify(SealKind::SwapPoint, keys).map_err(|source| ProvenanceError::Seal { what, source })?;
    let point: SwapPointStatement =
        serde_json::from_str(text).map_err(|source| ProvenanceError::Json { what, source })?;
    let statement = point.captures.into_iter().find(|capture| capture.capture == order.capture);
    let statement = statement.ok_or(ProvenanceError::Order("its swap point does not have the capture it names"))?;
    same("digest of the delta image", &statement.zdi, &order.zdi.digest)?;
    same("size of the delta image", &statement.zdi_bytes, &order.zdi.bytes)?;
    Ok(statement)
}

fn same<T: PartialEq + std::fmt::Display>(what: &'static str, sealed: &T, ordered: &T) -> Result<(), ProvenanceError> {
    if sealed == ordered {
        return Ok(());
    }
    Err(ProvenanceError::Other { what, sealed: sealed.to_string(), ordered: ordered.to_string() })
}
