//! Single parts of what an environment's image is made from: `runtimes`, `packages` and `dockerfile`.
//!
//! Each is a change of the environment like a `PATCH`, with the same checks, and begins a build.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use domain::{
    EnvironmentId,
    build::{dockerfile, package::Kind},
    environment::{Environment, Packages},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    builds, find,
    input::EnvironmentInput,
    view::{EnvironmentEnvelope, EnvironmentView, PackagesView},
};
use crate::{
    Api, Error, Result,
    auth::Caller,
    body::{Body, Patch},
    path::Path,
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(available_runtimes))
        .routes(routes!(list_runtimes, set_runtimes))
        .routes(routes!(list_packages, install_packages))
        .routes(routes!(uninstall_package))
        .routes(routes!(get_dockerfile, set_dockerfile))
        .routes(routes!(validate_dockerfile))
}

/// Changes an environment by fields that are checked as those of a PATCH.
async fn change(
    api: &Api,
    caller: &Caller,
    id: &EnvironmentId,
    make: impl FnOnce(&Environment) -> Result<EnvironmentInput> + Send,
) -> Result<EnvironmentView> {
    let apply = |environment: &mut Environment| {
        make(environment)?.check()?.apply(environment);
        Ok::<_, Error>(())
    };
    let mut environment = api.store.update_environment(&caller.project, id, None, apply).await?;
    match builds::begin(api, caller, &environment).await {
        Ok(build) => environment.build.latest = build,
        // The change stands; whoever needs the image is told.
        Err(err) => tracing::info!(environment = %id, "no build was begun after a change: {err}"),
    }
    Ok(super::view(api, environment).await)
}

/// Language to versions that can be had.
#[derive(Serialize, ToSchema)]
struct AvailableRuntimes {
    #[schema(value_type = Object, example = json!({"python": ["3.11"], "nodejs": ["18", "20", "22"]}))]
    runtimes: BTreeMap<&'static str, Vec<String>>,
}

/// List the languages that environments can have
///
/// With the versions that can be had on this server: asked of the workspace image, its distribution and the languages' own
/// installers, as far as builds reach them. The first call of a day takes some seconds.
#[utoipa::path(get, path = "/environments/runtimes/available", tag = "environments",
    responses((status = 200, description = "Language to versions, oldest first", body = AvailableRuntimes)))]
async fn available_runtimes(State(api): State<Api>, _caller: Caller) -> Result<Json<AvailableRuntimes>> {
    Ok(Json(AvailableRuntimes { runtimes: api.sandboxes.available_runtimes().await? }))
}

/// Language to version.
#[derive(Serialize, ToSchema)]
struct Runtimes {
    #[schema(value_type = Object, example = json!({"python": "3.11"}))]
    runtimes: BTreeMap<String, String>,
}

/// List an environment's languages
#[utoipa::path(get, path = "/environments/{id}/runtimes", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "Language to version", body = Runtimes)))]
async fn list_runtimes(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
) -> Result<Json<Runtimes>> {
    Ok(Json(Runtimes { runtimes: find(&api, &caller, &id).await?.settings.runtimes }))
}

/// The languages that an environment shall have.
#[derive(Deserialize, ToSchema)]
struct RuntimesInput {
    /// An object like `{"python": "3.11"}` or an array of names. It takes the place of what was there.
    #[schema(value_type = Object)]
    runtimes: Value,
}

/// Set an environment's languages
///
/// Begins a build.
#[utoipa::path(put, path = "/environments/{id}/runtimes", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")), request_body = RuntimesInput,
    responses((status = 200, description = "The environment", body = EnvironmentEnvelope)))]
async fn set_runtimes(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(input): Body<RuntimesInput>,
) -> Result<Json<EnvironmentEnvelope>> {
    let make = |_: &Environment| Ok(EnvironmentInput::of_runtimes(input.runtimes));
    Ok(Json(EnvironmentEnvelope { environment: change(&api, &caller, &id, make).await? }))
}

/// Packages of an environment.
#[derive(Serialize, ToSchema)]
struct PackagesEnvelope {
    packages: PackagesView,
}

/// List an environment's packages
#[utoipa::path(get, path = "/environments/{id}/packages", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "Packages by who installs them", body = PackagesEnvelope)))]
async fn list_packages(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
) -> Result<Json<PackagesEnvelope>> {
    let environment = find(&api, &caller, &id).await?;
    Ok(Json(PackagesEnvelope { packages: environment.settings.packages.into() }))
}

/// Packages to add.
#[derive(Deserialize, ToSchema)]
struct InstallInput {
    /// `system`, `python` or `node`. (Some clients send an object of packages here.)
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "python")]
    kind: Value,
    /// Names, with versions where they matter.
    #[serde(default)]
    #[schema(example = json!(["flask==3.0"]))]
    packages: Vec<String>,
}

/// What was added.
#[derive(Serialize, ToSchema)]
struct Installed {
    environment: EnvironmentView,
    /// The names as they were given.
    installed: Vec<String>,
}

/// Add packages to an environment
///
/// One that is there in another version takes that one's place. They are in the image after the build that this
/// begins.
#[utoipa::path(post, path = "/environments/{id}/packages", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")), request_body = InstallInput,
    responses((status = 200, description = "The environment, and what was added", body = Installed)))]
async fn install_packages(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(input): Body<InstallInput>,
) -> Result<Json<Installed>> {
    let wanted = input.read()?;
    let installed = wanted.iter().map(|(_, name)| name.clone()).collect();
    let make = move |environment: &Environment| {
        let mut packages = environment.settings.packages.clone();
        for (kind, name) in wanted {
            let list = list_of(&mut packages, kind);
            list.retain(|there| kind.bare(there) != kind.bare(&name));
            list.push(name);
        }
        Ok(EnvironmentInput::of_packages(&packages))
    };
    Ok(Json(Installed { environment: change(&api, &caller, &id, make).await?, installed }))
}

impl InstallInput {
    fn read(self) -> Result<Vec<(Kind, String)>> {
        /// What some clients send as the type.
        #[derive(Deserialize)]
        struct Listed {
            packages: Vec<One>,
        }
        #[derive(Deserialize)]
        struct One {
            #[serde(rename = "type")]
            kind: String,
            name: String,
        }
        let read_kind = |kind: &str| kind.parse::<Kind>().map_err(|err| Error::invalid_field("type", err.to_string()));
        let wanted = match &self.kind {
            Value::String(kind) => {
                let kind = read_kind(kind)?;
                self.packages.into_iter().map(|name| (kind, name)).collect()
            }
            other => match serde_json::from_value::<Listed>(other.clone()) {
                Ok(listed) => {
                    let packages = listed.packages.into_iter();
                    packages.map(|one| Ok((read_kind(&one.kind)?, one.name))).collect::<Result<Vec<_>>>()?
                }
                Err(_) => return Err(Error::invalid_field("type", "must be system, python or node")),
            },
        };
        for (index, (kind, name)) in wanted.iter().enumerate() {
            if !kind.is_name(name) {
                return Err(Error::invalid_field(format!("packages[{index}]"), "must be the name of a package"));
            }
        }
        if wanted.is_empty() { Err(Error::missing_field("packages")) } else { Ok(wanted) }
    }
}

/// What was taken away.
#[derive(Serialize, ToSchema)]
struct Uninstalled {
    environment: EnvironmentView,
    uninstalled: String,
}

/// Take a package from an environment
///
/// By its name, with or without the version. It is out of the image after the build that this
/// begins.
#[utoipa::path(delete, path = "/environments/{id}/packages/{type}/{*name}", tag = "environments",
    params(
        ("id" = String, Path, description = "The environment's id"),
        ("type" = String, Path, description = "`system`, `python` or `node`"),
        ("name" = String, Path, description = "The package; a scope's slash may stand as it is"),
    ),
    responses((status = 200, description = "The environment, and what was taken away", body = Uninstalled)))]
async fn uninstall_package(
    State(api): State<Api>,
    caller: Caller,
    Path((id, kind, name)): Path<(EnvironmentId, String, String)>,
) -> Result<Json<Uninstalled>> {
    let kind: Kind = kind.parse().map_err(|_| Error::not_found("Package type", &kind))?;
    let wanted = name.clone();
    let make = move |environment: &Environment| {
        let mut packages = environment.settings.packages.clone();
        let list = list_of(&mut packages, kind);
        let before = list.len();
        list.retain(|there| *there != wanted && kind.bare(there) != wanted);
        if list.len() == before {
            Err(Error::not_found("Package", &wanted))
        } else {
            Ok(EnvironmentInput::of_packages(&packages))
        }
    };
    Ok(Json(Uninstalled { environment: change(&api, &caller, &id, make).await?, uninstalled: name }))
}

fn list_of(packages: &mut Packages, kind: Kind) -> &mut Vec<String> {
    match kind {
        Kind::System => &mut packages.system,
        Kind::Python => &mut packages.python,
        Kind::Node => &mut packages.node,
    }
}

/// What an image is made from.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DockerfileView {
    base_image: String,
    dockerfile_extensions: Option<String>,
    /// The whole Dockerfile: runtimes, packages, extensions and setup scripts.
    effective_dockerfile: String,
}

/// Get the Dockerfile
#[utoipa::path(get, path = "/environments/{id}/dockerfile", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")),
    responses((status = 200, description = "The environment's own lines, and the whole", body = DockerfileView)))]
async fn get_dockerfile(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
) -> Result<Json<DockerfileView>> {
    let environment = find(&api, &caller, &id).await?;
    let recipe = api.sandboxes.recipe_of(&environment);
    Ok(Json(DockerfileView {
        effective_dockerfile: recipe.dockerfile(),
        base_image: recipe.base,
        dockerfile_extensions: environment.settings.dockerfile_extensions,
    }))
}

/// Lines for a Dockerfile.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DockerfileInput {
    /// Instructions that come after packages and before setup scripts. `FROM`, `COPY` and `ADD` are not possible.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "RUN echo hello")]
    dockerfile_extensions: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    base_image: Patch<String>,
}

/// Set the environment's own lines of the Dockerfile
///
/// Begins a build.
#[utoipa::path(put, path = "/environments/{id}/dockerfile", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")), request_body = DockerfileInput,
    responses((status = 200, description = "The environment", body = EnvironmentEnvelope)))]
async fn set_dockerfile(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(input): Body<DockerfileInput>,
) -> Result<Json<EnvironmentEnvelope>> {
    let DockerfileInput { dockerfile_extensions, base_image } = input;
    let make = |_: &Environment| Ok(EnvironmentInput::of_dockerfile(dockerfile_extensions, base_image));
    Ok(Json(EnvironmentEnvelope { environment: change(&api, &caller, &id, make).await? }))
}

/// What was found in lines of a Dockerfile.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Validation {
    valid: bool,
    /// Why it cannot be built.
    errors: Vec<String>,
    /// What will not be as it looks.
    warnings: Vec<String>,
    /// The whole Dockerfile with these lines.
    effective_dockerfile: String,
}

/// Check lines for the Dockerfile
///
/// Nothing is changed or built. Without `dockerfileExtensions` the environment's own lines are checked.
#[utoipa::path(post, path = "/environments/{id}/dockerfile/validate", tag = "environments",
    params(("id" = String, Path, description = "The environment's id")), request_body = DockerfileInput,
    responses((status = 200, description = "What was found", body = Validation)))]
async fn validate_dockerfile(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<EnvironmentId>,
    Body(input): Body<DockerfileInput>,
) -> Result<Json<Validation>> {
    let mut environment = find(&api, &caller, &id).await?;
    input.dockerfile_extensions.apply(&mut environment.settings.dockerfile_extensions);
    input.base_image.apply(&mut environment.settings.base_image);
    let recipe = api.sandboxes.recipe_of(&environment);
    let own = dockerfile::check(environment.settings.dockerfile_extensions.as_deref().unwrap_or_default());
    let others = recipe.errors.iter().filter(|(field, _)| field != "dockerfileExtensions");
    let errors: Vec<_> =
        own.errors.into_iter().chain(others.map(|(field, error)| format!("{field}: {error}"))).collect();
    Ok(Json(Validation {
        valid: errors.is_empty(),
        errors,
        effective_dockerfile: recipe.dockerfile(),
        warnings: recipe.warnings,
    }))
}
