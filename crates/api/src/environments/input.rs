//! What clients send to make, replace and change an environment, and what of it is acceptable.
//!
//! One set of fields for all three: a new environment is a change of an empty one.

use std::borrow::Cow;

use domain::{
    build::dockerfile,
    environment::{ComputeProfile, Environment, EnvironmentSettings, Packages, Variable},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{AllOfBuilder, ObjectBuilder, Ref, RefOr, Schema},
};

use super::{
    normal::{self, Runtimes},
    secrets::SecretInput,
    view::{DERIVED_METADATA, McpServer, PackagesView},
};
use crate::{
    Error, Result,
    body::Patch,
    check::{self, Fields},
    mcp,
};

const MAX_TEXT_BYTES: usize = 256 * 1024;
const MAX_ITEMS: usize = 1000;

/// The fields of an environment. An absent field is left alone, `null` clears it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EnvironmentInput {
    /// 1 to 255 characters.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
    /// An object like `{"python": "3.11", "nodejs": "18"}` or an array like `["python", "nodejs"]`, which takes the versions
    /// that the workspace image has.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    runtimes: Patch<Value>,
    /// An object like `{"system": [], "python": ["flask"], "node": []}` or an array of Python packages.
    #[serde(default)]
    #[schema(value_type = Option<PackagesView>)]
    packages: Patch<Value>,
    /// Lines added to the environment's Dockerfile. `FROM`, `COPY` and `ADD` are not possible.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    dockerfile_extensions: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<super::view::VariableView>>)]
    environment_variables: Patch<Vec<Variable>>,
    /// Replaces all secrets. Each becomes an environment variable; values are never given back.
    #[serde(default)]
    #[schema(value_type = Option<Vec<SecretInput>>)]
    secrets: Patch<Vec<SecretInput>>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    setup_scripts: Patch<Vec<String>>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<McpServer>>)]
    mcp_servers: Patch<Vec<Value>>,
    /// Texts that every run here is told.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    documentation: Patch<Vec<String>>,
    /// False: the container has no network at all. True if it never was set.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    internet_access: Patch<bool>,
    /// Takes the place of the project's default environment before it.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    is_default: Patch<bool>,
    #[serde(default)]
    #[schema(value_type = Option<super::view::ComputeProfileView>)]
    compute_profile: Patch<ComputeProfile>,
    /// The image to build on; the server's workspace image if absent.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    base_image: Patch<String>,
    /// True makes the profile `desktop`.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    gui_enabled: Patch<bool>,
    /// True makes the profile `desktop`.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    office_apps_enabled: Patch<bool>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Patch<Map<String, Value>>,
}

/// The fields of an environment with a name: describes the body; [`EnvironmentInput`] reads it.
pub(super) struct CreateEnvironment;

impl PartialSchema for CreateEnvironment {
    fn schema() -> RefOr<Schema> {
        AllOfBuilder::new()
            .item(Ref::from_schema_name(EnvironmentInput::name()))
            .item(ObjectBuilder::new().required("name"))
            .examples([json!({"name": "web", "runtimes": ["python", "nodejs"], "packages": ["flask", "pytest"]})])
            .into()
    }
}

impl ToSchema for CreateEnvironment {
    fn name() -> Cow<'static, str> {
        "CreateEnvironment".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((EnvironmentInput::name().into(), EnvironmentInput::schema()));
        EnvironmentInput::schemas(schemas);
    }
}

/// Acceptable fields in their normal form.
#[derive(Debug)]
pub(super) struct Change {
    fields: EnvironmentInput,
    runtimes: Patch<Runtimes>,
    packages: Patch<Packages>,
    pub(super) secrets: Option<Vec<SecretInput>>,
}

impl EnvironmentInput {
    /// Changes nothing but the languages.
    pub(super) fn of_runtimes(runtimes: Value) -> Self {
        Self { runtimes: Patch::Value(runtimes), ..Self::default() }
    }

    /// Changes nothing but the packages.
    pub(super) fn of_packages(packages: &Packages) -> Self {
        Self { packages: Patch::Value(json!(packages)), ..Self::default() }
    }

    /// Changes nothing but the image's own lines, and what they come after.
    pub(super) fn of_dockerfile(dockerfile_extensions: Patch<String>, base_image: Patch<String>) -> Self {
        Self { dockerfile_extensions, base_image, ..Self::default() }
    }

    /// Checks all fields and brings them to their normal form.
    pub(super) fn check(mut self) -> Result<Change> {
        let mut fields = Fields::default();
        fields.check_patch("name", &self.name, |name| check::name(name));
        let runtimes = normal::patch(&mut fields, std::mem::take(&mut self.runtimes), normal::runtimes);
        let packages = normal::patch(&mut fields, std::mem::take(&mut self.packages), normal::packages);
        let servers = normal::patch(&mut fields, std::mem::take(&mut self.mcp_servers), mcp::check);
        self.mcp_servers = servers;
        for (name, text) in [("description", &self.description), ("dockerfileExtensions", &self.dockerfile_extensions)]
        {
            if matches!(text, Patch::Value(text) if text.len() > MAX_TEXT_BYTES) {
                fields.refuse(name, format!("must have at most {MAX_TEXT_BYTES} bytes"));
            }
        }
        if let Patch::Value(text) = &self.dockerfile_extensions {
            for error in dockerfile::check(text).errors {
                fields.refuse("dockerfileExtensions", error);
            }
        }
        if matches!(&self.base_image, Patch::Value(image) if !normal::is_image(image)) {
            fields.refuse("baseImage", "must be the name of an image, for example debian:bookworm-slim");
        }
        for (name, texts) in [("setupScripts", &self.setup_scripts), ("documentation", &self.documentation)] {
            let Patch::Value(texts) = texts else { continue };
            if texts.len() > MAX_ITEMS {
                fields.refuse(name, format!("must have at most {MAX_ITEMS} items"));
            }
            if let Some(index) = texts.iter().position(|text| text.len() > MAX_TEXT_BYTES) {
                fields.refuse(format!("{name}[{index}]"), format!("must have at most {MAX_TEXT_BYTES} bytes"));
            }
        }
        if let Patch::Value(variables) = &self.environment_variables {
            let pairs = variables.iter().map(|variable| (&*variable.key, variable.value.len()));
            check::variables(&mut fields, "environmentVariables", pairs.collect());
        }
        let secrets = match std::mem::take(&mut self.secrets) {
            Patch::Absent => None,
            Patch::Null => Some(Vec::new()),
            Patch::Value(secrets) => Some(secrets),
        };
        let pairs = secrets.iter().flatten().map(|secret| (&*secret.key, secret.value.as_ref().map_or(0, String::len)));
        check::variables(&mut fields, "secrets", pairs.collect());
        fields.finish()?;
        Ok(Change { fields: self, runtimes, packages, secrets })
    }
}

impl Change {
    /// Takes out the name, the settings and the wish to be the default of an environment made of nothing but this.
    pub(super) fn take_new(&mut self) -> Result<(String, EnvironmentSettings, Option<bool>)> {
        let Patch::Value(name) = std::mem::take(&mut self.fields.name) else {
            return Err(Error::missing_field("name"));
        };
        let is_default = match self.fields.is_default {
            Patch::Value(is_default) => Some(is_default),
            Patch::Absent | Patch::Null => None,
        };
        let mut settings = EnvironmentSettings::default();
        self.apply_settings(&mut settings);
        Ok((name, settings, is_default))
    }

    /// Changes an environment.
    pub(super) fn apply(mut self, environment: &mut Environment) {
        std::mem::take(&mut self.fields.name).apply_or_default(&mut environment.name);
        std::mem::take(&mut self.fields.is_default).apply_or_default(&mut environment.is_default);
        self.apply_settings(&mut environment.settings);
    }

    fn apply_settings(&mut self, settings: &mut EnvironmentSettings) {
        let fields = std::mem::take(&mut self.fields);
        fields.description.apply(&mut settings.description);
        std::mem::take(&mut self.runtimes).apply_or_default(&mut settings.runtimes);
        std::mem::take(&mut self.packages).apply_or_default(&mut settings.packages);
        fields.dockerfile_extensions.apply(&mut settings.dockerfile_extensions);
        fields.environment_variables.apply_or_default(&mut settings.environment_variables);
        fields.setup_scripts.apply_or_default(&mut settings.setup_scripts);
        fields.mcp_servers.apply_or_default(&mut settings.mcp_servers);
        fields.documentation.apply_or_default(&mut settings.documentation);
        fields.base_image.apply(&mut settings.base_image);
        match fields.internet_access {
            Patch::Absent => {}
            Patch::Null => settings.internet_access = EnvironmentSettings::default().internet_access,
            Patch::Value(has_access) => settings.internet_access = has_access,
        }
        fields.metadata.apply(&mut settings.metadata);
        if let Some(metadata) = &mut settings.metadata {
            // What a view adds comes back when clients send a whole environment.
            metadata.retain(|key, _| !DERIVED_METADATA.contains(&key.as_str()));
        }
        let names_profile = fields.compute_profile != Patch::Absent;
        fields.compute_profile.apply(&mut settings.compute_profile);
        fields.gui_enabled.apply_or_default(&mut settings.gui_enabled);
        fields.office_apps_enabled.apply_or_default(&mut settings.office_apps_enabled);
        let wants_desktop = settings.gui_enabled || settings.office_apps_enabled;
        match settings.compute_profile {
            _ if names_profile => {}
            Some(ComputeProfile::Desktop) if !wants_desktop => {
                settings.compute_profile = Some(ComputeProfile::Standard)
            }
            _ if wants_desktop => settings.compute_profile = Some(ComputeProfile::Desktop),
            _ => {}
        }
    }
}
