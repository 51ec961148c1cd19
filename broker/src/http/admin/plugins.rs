//! The routes that show plugins.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;

use super::super::error::ApiError;
use super::super::paging::Page;
use super::super::state::State;
use super::answers::PluginAnswer;
use super::request::Known;
use crate::deploy::View;
use crate::model::PluginName;

/// Lists all plugins, by name.
#[utoipa::path(get, path = "/api/plugins/", tag = "plugins", responses((status = 200, body = Page<PluginAnswer>)))]
pub(super) async fn list(Extract(state): Extract<Arc<State>>) -> Result<Json<Page<PluginAnswer>>, ApiError> {
    let catalogue = state.control.catalogue().await?;
    let view = View { catalogue: &catalogue, built_in: state.control.built_in() };
    let built_in = view.built_in.iter().map(|known| &known.plugin);
    let names: BTreeSet<&PluginName> = built_in.chain(catalogue.versions.iter().map(|known| &known.plugin)).collect();
    Ok(Json(Page::whole(names.into_iter().map(|name| PluginAnswer::new(view, name)).collect())))
}

/// Shows one plugin.
#[utoipa::path(get, path = "/api/plugins/{name}/", tag = "plugins", params(("name" = String, Path)),
    responses((status = 200, body = PluginAnswer), (status = 404, description = "there is no such plugin")))]
pub(super) async fn show(
    Extract(state): Extract<Arc<State>>,
    Known(name): Known,
) -> Result<Json<PluginAnswer>, ApiError> {
    let catalogue = state.control.catalogue().await?;
    let view = View { catalogue: &catalogue, built_in: state.control.built_in() };
    Ok(Json(PluginAnswer::new(view, &name)))
}
