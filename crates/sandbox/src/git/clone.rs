//! Getting a repository into the workspace.

use domain::WorkspacePath;
use uuid::Uuid;

use super::{Error, Git, Remote, Repository, absolute, command::Call, name, shown};

/// A repository that was cloned.
#[derive(Debug, Clone)]
pub struct Cloned {
    pub repository: Repository,
    pub branch: Option<String>,
}

/// The target is in the way.
const OCCUPIED: i32 = 90;

/// Clones beside the target and moves it there when it is whole. What a crash left behind an hour ago goes.
const SCRIPT: &str = r#"
target=$1 temporary=$2; shift 2
if [ -e "$target" ] || [ -L "$target" ]; then
  [ -d "$target" ] && [ ! -L "$target" ] && [ -z "$(ls -A "$target")" ] || exit 90
fi
find . -maxdepth 1 -name '.atelier-clone-*' -mmin +60 -exec rm -rf {} + 2>/dev/null
mkdir -p "$(dirname "$target")" || exit 90
if [ "$target" = "$PWD" ]; then exec git clone "$@" "$target"; fi
trap 'rm -rf "$temporary"' EXIT
git clone "$@" "$temporary" || exit
mv -T "$temporary" "$target" || exit 90
"#;

impl Git {
    /// Clones `remote` into the directory `target`, which is made; one that is there must be empty.
    ///
    /// # Errors
    /// `Conflict` for a target that is in use; `NotFound`, `AccessDenied`, `Unreachable` by what the remote says.
    pub async fn clone_to(
        &self,
        remote: &Remote,
        target: &WorkspacePath,
        branch: Option<&str>,
    ) -> Result<Cloned, Error> {
        let mut args = vec!["--quiet", "--no-hardlinks"];
        if let Some(branch) = branch {
            args.extend(["--branch", name::branch("branch", branch)?]);
        }
        args.extend(["--", &remote.url]);
        let root = WorkspacePath::default();
        let temporary = format!("{}/.atelier-clone-{}", absolute(&root), Uuid::new_v4().simple());
        let target_path = absolute(target);
        let all = [&*target_path, &*temporary].into_iter().chain(args);
        let call = Call::script(&absolute(&root), SCRIPT, all).transfer(remote.token.as_ref());
        let output = match self.run(call).await {
            Err(err @ Error::TimedOut(_)) => {
                // It was killed, and could not.
                self.run(Call::script("/", r#"rm -rf -- "$1""#, [&*temporary])).await?;
                return Err(err);
            }
            output => output?,
        };
        match output.code {
            0 => {}
            OCCUPIED => {
                let message = format!("'{}' is there already and not an empty directory", shown(target));
                return Err(Error::conflict("target_exists", message));
            }
            _ => return Err(Error::of_remote(output.complaint)),
        }
        let repository = self.repository(target).await?;
        Ok(Cloned { branch: repository.current_branch().await?, repository })
    }
}
