//! Images of environments: built, shared, refused, removed.

use std::{process::Command as Process, time::Duration};

use chrono::Utc;
use domain::{
    EnvironmentId, ProjectId,
    build::EnvironmentBuild,
    environment::{Environment, EnvironmentSettings, Packages},
};
use futures::{StreamExt, TryStreamExt};
use sandbox::{BuildOptions, Error, Options, Plan};

use crate::world::{World, eventually, run};

/// A world whose builds need no network, and which leaves no image behind.
struct Builds {
    world: World,
}

impl Builds {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let offline = BuildOptions { network: Some("none".to_owned()), ..BuildOptions::default() };
        let world = World::with(|options| {
            options.builds = offline;
            change(options);
        });
        Self { world: world.await }
    }

    async fn plan(&self, environment: &Environment) -> Plan {
        self.world.sandboxes.plan(environment).await.expect("can be built").expect("has to be built")
    }

    async fn build(&self, plan: &Plan) -> Result<String, Error> {
        self.world.sandboxes.build(plan).try_collect().await
    }
}

impl Drop for Builds {
    fn drop(&mut self) {
        // Containers first, or they hold their images.
        let label = format!("label=atelier.installation={}", self.world.options.installation);
        for container in docker(&["ps", "-aq", "--filter", &label]) {
            docker(&["rm", "-f", &container]);
        }
        let label = format!("label=atelier.built-by={}", self.world.options.installation);
        for image in docker(&["images", "-q", "--filter", &label]) {
            docker(&["rmi", "-f", &image]);
        }
    }
}

fn docker(arguments: &[&str]) -> Vec<String> {
    let output = Process::new("docker").args(arguments).output().expect("docker runs");
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

/// An environment as its row would be.
fn environment(settings: EnvironmentSettings) -> Environment {
    Environment {
        id: EnvironmentId::generate(),
        project_id: ProjectId::generate(),
        name: "test".to_owned(),
        settings: EnvironmentSettings { internet_access: false, ..settings },
        secret_keys: Vec::new(),
        is_default: false,
        is_active: true,
        build: EnvironmentBuild::default(),
        created_at: Utc::now(),
        updated_at: Utc::now(),
    }
}

fn extended(lines: &str) -> Environment {
    environment(EnvironmentSettings { dockerfile_extensions: Some(lines.to_owned()), ..Default::default() })
}

#[tokio::test]
async fn a_computer_is_made_from_the_image_that_was_built_for_it() {
    let builds = Builds::new().await;
    let sandboxes = &builds.world.sandboxes;
    let mut environment = environment(EnvironmentSettings {
        runtimes: [("python".to_owned(), "3.11".to_owned())].into(),
        dockerfile_extensions: Some("ENV GREETING=\"hello world\"\nRUN echo extended >&2".to_owned()),
        setup_scripts: vec!["cat > /opt/note <<'END'\nit's \\ \"$GREETING\"\nEND\nid -u > /opt/user".to_owned()],
        ..Default::default()
    });
    let plan = builds.plan(&environment).await;
    assert!(!sandboxes.has_image(&plan.image).await.expect("an engine"));
    let said = builds.build(&plan).await.expect("builds");
    assert!(said.contains("extended\n"), "without colours: {said:?}");
    assert!(said.contains("Step 1/"), "{said}");
    assert!(sandboxes.has_image(&plan.image).await.expect("an engine"));
    environment.build.image = Some(plan.image.clone());
    let sandbox = sandboxes.open(&sandboxes.spec_of(&environment)).await.expect("opens");
    let (said, _) = run(&sandbox, "cat /opt/note /opt/user; echo $GREETING").await;
    assert_eq!(said, "it's \\ \"$GREETING\"\n0\nhello world\n");
    let trial = sandboxes.try_image(&environment).await.expect("starts");
    assert!(trial.is_well && trial.output.contains("python 3.11."), "{trial:?}");
    sandboxes.remove(&environment.id).await.expect("goes");
    sandboxes.remove_image(&plan.image).await.expect("goes");
    assert!(!sandboxes.has_image(&plan.image).await.expect("an engine"));
}

#[tokio::test]
async fn equal_recipes_are_one_image_and_another_base_is_another() {
    let builds = Builds::new().await;
    let (first, second) = (builds.plan(&extended("RUN true")).await, builds.plan(&extended("RUN true")).await);
    assert_eq!(first, second);
    assert_ne!(first.hash, builds.plan(&extended("RUN false")).await.hash);
    let elsewhere = Builds::new().await;
    assert_ne!(first.hash, elsewhere.plan(&extended("RUN true")).await.hash, "an installation's images are its own");
    assert_eq!(builds.world.sandboxes.plan(&extended("# nothing\n")).await.expect("plans").map(|plan| plan.base), {
        Some(builds.world.options.image.clone())
    });
    let plain = environment(EnvironmentSettings::default());
    assert_eq!(builds.world.sandboxes.plan(&plain).await.expect("plans"), None);
}

#[tokio::test]
async fn a_step_that_fails_ends_the_build_with_its_words() {
    let builds = Builds::new().await;
    let plan = builds.plan(&extended("RUN echo before && exit 7\nRUN echo never")).await;
    let (mut said, mut error) = (String::new(), None);
    let mut stream = std::pin::pin!(builds.world.sandboxes.build(&plan));
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(text) => said += &text,
            Err(err) => error = Some(err),
        }
    }
    assert!(said.contains("before") && !said.contains("Running in never"), "{said}");
    assert!(matches!(&error, Some(Error::BuildFailed(why)) if why.contains("code: 7")), "{error:?}");
    assert!(!builds.world.sandboxes.has_image(&plan.image).await.expect("an engine"));
}

#[tokio::test]
async fn a_build_that_nobody_follows_any_more_ends() {
    let builds = Builds::new().await;
    let label = format!("label=atelier.built-by={}", builds.world.options.installation);
    let running = || docker(&["ps", "-q", "--filter", &label]).len();
    let plan = builds.plan(&extended("RUN sleep 300")).await;
    let sandboxes = builds.world.sandboxes.clone();
    let building = tokio::spawn(async move { sandboxes.build(&plan).for_each(|_| async {}).await });
    eventually(Duration::from_secs(60), async || running() == 1).await;
    building.abort();
    eventually(Duration::from_secs(60), async || running() == 0).await;
}

#[tokio::test]
async fn nobody_names_an_image_that_was_built_for_another() {
    let builds = Builds::new().await;
    let sandboxes = &builds.world.sandboxes;
    let plan = builds.plan(&extended("RUN echo secret > /opt/other")).await;
    builds.build(&plan).await.expect("builds");
    let named = environment(EnvironmentSettings { base_image: Some(plan.image.clone()), ..Default::default() });
    let opened = sandboxes.open(&sandboxes.spec_of(&named)).await.map(drop);
    assert!(matches!(opened, Err(Error::ImageRefused(_))), "{opened:?}");
    let settings = EnvironmentSettings { dockerfile_extensions: Some("RUN true".to_owned()), ..named.settings };
    let planned = sandboxes.plan(&environment(settings)).await;
    assert!(matches!(planned, Err(Error::ImageRefused(_))), "{planned:?}");
    // What is not ours is not taken for built, whatever a row says.
    let mut other = extended("RUN true");
    other.build.image = Some(builds.world.options.image.clone());
    let opened = sandboxes.open(&sandboxes.spec_of(&other)).await.map(drop);
    assert!(matches!(opened, Err(Error::ImageRefused(_))), "{opened:?}");
    sandboxes.remove_image(&builds.world.options.image).await.expect("is left alone");
    assert!(sandboxes.has_image(&builds.world.options.image).await.expect("an engine"));
}

#[tokio::test]
async fn what_a_site_gives_reaches_builds_and_computers() {
    let bundle = std::fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").expect("this machine trusts somebody");
    let end = bundle.find("-----END CERTIFICATE-----").expect("a certificate") + 26;
    let builds = Builds::with(|options| {
        options.builds.certificates = vec![bundle[..end].to_owned()];
        options.builds.apt_mirror = Some("http://mirror.example/debian".to_owned());
        options.builds.variables = [("PIP_INDEX_URL", "http://pip.example/"), ("http_proxy", "http://proxy.example:1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
    });
    let builds = builds.await;
    let sandboxes = &builds.world.sandboxes;
    let mut plain = environment(EnvironmentSettings::default());
    let plan = builds.plan(&plain).await;
    builds.build(&plan).await.expect("builds");
    let both = builds.plan(&extended("RUN echo \"$PIP_INDEX_URL $http_proxy\" > /opt/build")).await;
    builds.build(&both).await.expect("builds");
    plain.build.image = Some(plan.image);
    let sandbox = sandboxes.open(&sandboxes.spec_of(&plain)).await.expect("opens");
    let script = "cat /usr/local/share/ca-certificates/site-0.crt | head -n 1; grep -c mirror.example /etc/apt/sources.list; \
                  echo $PIP_INDEX_URL $http_proxy";
    let (said, _) = run(&sandbox, script).await;
    assert_eq!(said, "-----BEGIN CERTIFICATE-----\n2\nhttp://pip.example/ http://proxy.example:1\n");
    let history = docker(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", &both.image]).join(" ");
    assert!(history.contains("pip.example") && !history.contains("proxy.example"), "{history}");
}

#[tokio::test]
async fn packages_come_over_the_network_of_containers() {
    let builds = Builds::with(|options| options.builds.network = None).await;
    let sandboxes = &builds.world.sandboxes;
    let mut environment = environment(EnvironmentSettings {
        packages: Packages {
            system: vec!["figlet".to_owned()],
            python: vec!["toolz>=0.12".to_owned()],
            node: vec!["is-number@7".to_owned()],
        },
        ..Default::default()
    });
    let plan = builds.plan(&environment).await;
    builds.build(&plan).await.expect("builds");
    environment.build.image = Some(plan.image);
    let trial = sandboxes.try_image(&environment).await.expect("starts");
    assert!(trial.is_well, "{trial:?}");
    for what in ["figlet", "toolz 1.", "is-number@7"] {
        assert!(trial.output.contains(what), "{what}: {}", trial.output);
    }
}

#[tokio::test]
async fn languages_that_can_be_had_are_asked_for_and_not_made_up() {
    let builds = Builds::with(|options| options.builds.network = None).await;
    let sandboxes = &builds.world.sandboxes;
    let available = sandboxes.available_runtimes().await.expect("asks");
    assert!(available["python"].contains(&"3.11".to_owned()), "{available:?}");
    assert!(available["nodejs"].contains(&"18".to_owned()), "{available:?}");
    for language in ["go", "php", "java", "ruby", "rust"] {
        assert!(!available[language].is_empty(), "the distribution has {language}: {available:?}");
    }
}

#[tokio::test]
async fn a_version_that_cannot_be_had_fails_the_build() {
    let builds = Builds::new().await;
    let runtimes = [("python".to_owned(), "2.6".to_owned())].into();
    let plan = builds.plan(&environment(EnvironmentSettings { runtimes, ..Default::default() })).await;
    let mut said = String::new();
    let mut stream = std::pin::pin!(builds.world.sandboxes.build(&plan));
    let mut is_failed = false;
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(text) => said += &text,
            Err(err) => is_failed = matches!(err, Error::BuildFailed(_)),
        }
    }
    assert!(is_failed && said.contains("python 2.6 cannot be had here"), "{said}");
}
