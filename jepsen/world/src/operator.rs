//! What an operator does: the product's command line, run against a node.
//!
//! Must not use any other way into the product. Invariant: every call has a limit, so that a node that hangs does not
//! hang the world.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::Line;
use crate::error::Error;
use crate::limits;

/// What a node says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) member: u64,
    pub(crate) leader: Option<u64>,
    pub(crate) term: u64,
    pub(crate) applied: u64,
    pub(crate) committed: u64,
    pub(crate) digest: String,
    pub(crate) job_errors: Vec<String>,
    pub(crate) damage: Vec<String>,
}

/// A member as the cluster sees it.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) member: u64,
    pub(crate) votes: bool,
    pub(crate) behind: Option<u64>,
}

/// The result of an offline verification.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    pub(crate) is_clean: bool,
    pub(crate) damage: Vec<String>,
    pub(crate) notices: Vec<String>,
}

/// The command line of one program.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    program: PathBuf,
}

impl Operator {
    pub(crate) fn new(program: &Path) -> Self {
        Self { program: program.to_owned() }
    }

    fn line(&self, words: &[&str]) -> Line {
        // The configuration of whoever runs the harness is not that of the cluster.
        let line = Line::new(self.program.to_string_lossy()).args(words).args(&["-o", "json"]);
        line.env("XDG_CONFIG_HOME", "/nonexistent")
    }

    pub(crate) fn status(&self, url: &str) -> Result<Status, Error> {
        let line = self.line(&["status", "--connect", url]);
        let answer = json(&line, &line.run(limits::STATUS)?)?;
        let number = |key: &str| answer[key].as_u64();
        Ok(Status {
            member: number("node_id").unwrap_or(0),
            leader: number("leader"),
            term: number("term").unwrap_or(0),
            applied: number("applied").unwrap_or(0),
            committed: number("committed").unwrap_or(0),
            digest: answer["digest"].as_str().unwrap_or_default().to_owned(),
            job_errors: texts(&answer["job_errors"]),
            damage: texts(&answer["damage"]),
        })
    }

    pub(crate) fn members(&self, url: &str) -> Result<Vec<Member>, Error> {
        let line = self.line(&["cluster", "status", "--connect", url]);
        let answer = json(&line, &line.run(limits::CALL)?)?;
        let member = |member: &Value| Member {
            member: member["node"].as_u64().unwrap_or(0),
            votes: member["votes"].as_bool().unwrap_or(false),
            behind: member["behind"].as_u64(),
        };
        Ok(answer.as_array().map(|all| all.iter().map(member).collect()).unwrap_or_default())
    }

    pub(crate) fn remove(&self, url: &str, member: u64) -> Result<(), Error> {
        let words = ["cluster", "remove", &member.to_string(), "--yes", "--connect", url];
        self.line(&words).run(limits::MEMBERSHIP).map(drop)
    }

    /// Makes certificates of these members, and returns the id of the cluster.
    pub(crate) fn certificates(
        &self,
        dir: &Path,
        cluster: Option<&str>,
        members: &[u64],
    ) -> Result<String, Error> {
        let members = members.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let mut line = self.line(&["certs", "--nodes", &members]).path(dir);
        if let Some(cluster) = cluster {
            line = line.args(&["--cluster", cluster]);
        }
        let said = line.run(limits::CALL)?;
        let answer = json(&line, &said)?;
        let id = answer[0]["cluster"].as_str().map(str::to_owned);
        id.ok_or_else(|| Error::Unreadable { line: line.to_string(), said })
    }

    /// Verifies a directory that no process has open, with what it has in the bucket that `bucket` names.
    pub(crate) fn verify(
        &self,
        dir: &Path,
        bucket: &[String],
        env: &[(String, String)],
    ) -> Result<Verified, Error> {
        let mut line = self.line(&["verify"]).arg("--data-dir").path(dir);
        line = bucket.iter().fold(line, Line::arg);
        line = env.iter().fold(line, |line, (name, value)| line.env(name, value));
        let output = line.output(limits::VERIFY)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let answer: Option<Value> = serde_json::from_str(&said).ok();
        let answer = answer.filter(|answer| answer.get("damage").is_some());
        let failed = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let (damage, notices) = match &answer {
            Some(answer) => (texts(&answer["damage"]), texts(&answer["notices"])),
            None => (vec![failed], Vec::new()),
        };
        Ok(Verified { is_clean: output.status.success() && damage.is_empty(), damage, notices })
    }

    /// Returns the words of a command that runs elsewhere, without the output format.
    pub(crate) fn words(&self, words: &[&str]) -> Vec<String> {
        let program = self.program.to_string_lossy().into_owned();
        std::iter::once(program).chain(words.iter().map(|word| (*word).to_owned())).collect()
    }
}

fn json(line: &Line, said: &str) -> Result<Value, Error> {
    serde_json::from_str(said.trim()).map_err(|_not_json| Error::Unreadable {
        line: line.to_string(),
        said: crate::command::end_of(said),
    })
}

fn texts(list: &Value) -> Vec<String> {
    let text = |item: &Value| item.as_str().map_or_else(|| item.to_string(), str::to_owned);
    list.as_array().map(|items| items.iter().map(text).collect()).unwrap_or_default()
}
