//! Which plugins there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};

use super::super::State;
use super::super::error::ApiError;
use super::answers::{Listing, PluginAnswer};
use crate::deploy::View;
use crate::model::PluginName;
use crate::protocol::{ErrorCode, Refusal};

/// All plugins, by name.
#[utoipa::path(get, path = "/api/plugins/", tag = "plugins", responses((status = 200, body = Listing<PluginAnswer>)))]
pub(super) async fn list(Extract(state): Extract<Arc<State>>) -> Result<Json<Listing<PluginAnswer>>, ApiError> {
    let catalogue = state.desk.catalogue().await?;
    let view = View { catalogue: &catalogue, built_in: state.desk.built_in() };
    let built_in = view.built_in.iter().map(|known| &known.plugin);
    let names: BTreeSet<&PluginName> = built_in.chain(catalogue.versions.iter().map(|known| &known.plugin)).collect();
    Ok(Json(Listing::whole(names.into_iter().map(|name| PluginAnswer::new(view, name)).collect())))
}

/// One plugin.
#[utoipa::path(get, path = "/api/plugins/{name}/", tag = "plugins", params(("name" = String, Path)),
    responses((status = 200, body = PluginAnswer), (status = 404, description = "there is no such plugin")))]
pub(super) async fn show(
    Extract(state): Extract<Arc<State>>,
    Path(name): Path<String>,
) -> Result<Json<PluginAnswer>, ApiError> {
    let name = named(&name)?;
    let catalogue = state.desk.catalogue().await?;
    let view = View { catalogue: &catalogue, built_in: state.desk.built_in() };
    if !view.knows(&name) {
        return Err(unknown(&name));
    }
    Ok(Json(PluginAnswer::new(view, &name)))
}

/// The plugin of a path.
pub(super) fn named(name: &str) -> Result<PluginName, ApiError> {
    name.parse().map_err(|rule| {
        let said: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        Refusal::new(ErrorCode::BadRequest, format!("`{said}` is no name of a plugin: it {rule}")).into()
    })
}

pub(super) fn unknown(name: &PluginName) -> ApiError {
    ApiError::missing(format!("there is no plugin `{name}`; `switchboard plugin list` says which there are"))
}
