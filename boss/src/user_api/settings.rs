//! Site variables. Their names, types and defaults are `boss-model`'s; here only text is kept.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use boss_api::ErrorCode;
use boss_api::user::{ChangeSetting, SettingView};
use boss_db::events::{self, NewEvent};
use boss_db::settings;
use boss_model::settings::Setting;

use super::body::{Body, Segments};
use crate::auth::Site;
use crate::auth::authorize::{Resource, Verb, authorize};
use crate::auth::extract::ApiUser;
use crate::error::AppError;

fn view(setting: Setting, changed: Option<String>) -> SettingView {
    SettingView {
        name: setting.name().into(),
        value: changed.unwrap_or_else(|| setting.default_text().into()),
        default: setting.default_text().into(),
        help: setting.help().into(),
    }
}

/// `GET settings`
pub async fn list(State(site): State<Site>, user: ApiUser) -> Result<Json<Vec<SettingView>>, AppError> {
    authorize(&user.subject, Verb::See, Resource::Settings)?;
    let changed = settings::all(&mut *site.app.pool.acquire().await?).await?;
    let mut changed: HashMap<String, String> = changed.into_iter().collect();
    Ok(Json(Setting::ALL.iter().map(|setting| view(*setting, changed.remove(setting.name()))).collect()))
}

/// `PUT settings/{name}`
pub async fn change(
    State(site): State<Site>,
    user: ApiUser,
    Segments(name): Segments<String>,
    Body(change): Body<ChangeSetting>,
) -> Result<Json<SettingView>, AppError> {
    authorize(&user.subject, Verb::Change, Resource::Settings)?;
    let known = Setting::find(&name).ok_or_else(|| {
        let names: Vec<&str> = Setting::ALL.iter().map(|setting| setting.name()).collect();
        AppError::new(ErrorCode::NotFound, format!("there is no setting {name:?}; there are {}", names.join(", ")))
    })?;
    let now = site.app.clock.now();
    let by = user.subject.user.id;
    let mut tx = site.app.begin().await?;
    let message = match &change.value {
        Some(value) => {
            known.check(value).map_err(|error| AppError::new(ErrorCode::BadRequest, error.to_string()))?;
            settings::set(&mut tx, known.name(), value, Some(by), now).await?;
            format!("{} set {} to {value:?}", user.subject.user.name, known.name())
        }
        None => {
            settings::unset(&mut tx, known.name()).await?;
            format!("{} put {} back to its default", user.subject.user.name, known.name())
        }
    };
    let event =
        NewEvent { experiment: None, node: None, user: Some(by), kind: "setting.changed", message: &message, at: now };
    events::add(&mut tx, event).await?;
    tx.commit().await?;
    site.app.changed.notify_waiters();
    Ok(Json(view(known, change.value)))
}
