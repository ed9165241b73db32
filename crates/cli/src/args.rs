//! The command line, as clap reads it.
//!
//! It must not read files or the environment: `config` does, so that each setting has one order of sources.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::output::Format;

/// A replicated lakehouse with one write path: a log.
#[derive(Debug, Parser)]
#[command(name = "alluvium", disable_version_flag = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Settings that every command takes. Each can also stand in the environment (`ALLUVIUM_` and the name in
/// capitals) or in the configuration file.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Work on this directory, in this process
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "connect")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Work through a running server
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) connect: Option<String>,
    /// How results are printed
    #[arg(short, long, global = true, value_enum)]
    pub(crate) output: Option<Format>,
    /// Read settings from this file [default: alluvium/config.toml in the user's configuration directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Memory that one query may hold, such as 512MiB
    #[arg(long, global = true, value_name = "BYTES")]
    pub(crate) query_memory: Option<String>,
    /// How long a statement may run, such as 30s or 5m
    #[arg(long, global = true, value_name = "TIME")]
    pub(crate) statement_timeout: Option<String>,
    /// A bucket that all members of the cluster see; repeat for more. Keys and endpoint are taken from the environment,
    /// under the names that other programs use, such as AWS_ACCESS_KEY_ID
    #[arg(
        long,
        global = true,
        value_name = "NAME=s3://BUCKET[/PREFIX]",
        conflicts_with = "connect"
    )]
    pub(crate) bucket: Vec<String>,
    /// Least level of log lines: error, warn, info, debug, trace, or a filter of tracing
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// How log lines look
    #[arg(long, global = true, value_enum)]
    pub(crate) log_format: Option<LogFormat>,
    /// Who is written into the log as the one who asked [default: the user's name]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) actor: Option<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a node on one port
    Serve(Box<Serve>),
    /// Run a cluster of three servers on this machine, until it is interrupted
    Dev(Dev),
    /// Show and change who belongs to the cluster
    #[command(subcommand)]
    Cluster(Cluster),
    /// Make certificates for the nodes of a cluster
    Certs(Certs),
    /// Register, list, show, evolve and drop datasets
    #[command(subcommand)]
    Dataset(Dataset),
    /// Add the rows of a file
    Append(Load),
    /// Add the rows of a file and hide older rows with the same keys
    Upsert(Load),
    /// Hide rows by key or predicate
    Tombstone(Tombstone),
    /// Cut unsealed rows into data files
    Seal(Named),
    /// Rewrite data files without their hidden rows
    Compact(Named),
    /// Move the retention floor and delete what is below it
    Expire(Expire),
    /// Run SQL: one statement, a file, standard input, or a shell
    Sql(Sql),
    /// Show entries of the log
    #[command(subcommand)]
    Log(Log),
    /// Check every digest, data file and log entry
    Verify,
    /// Say how the node is doing
    Status,
    /// Show what Alluvium promises, on real flights, with a crash in the middle
    Demo(Demo),
    /// Print the version
    Version,
    /// Append without end, for the demonstration's crash
    #[command(hide = true)]
    DemoWriter,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address to listen on; port 0 takes any and prints it
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Serve an address that other machines can reach, although nobody is checked
    #[arg(long)]
    pub(crate) insecure: bool,
    #[command(flatten)]
    pub(crate) log: LogSize,
    /// What to do when this node's state differs from that of the others
    #[arg(long, value_enum, default_value = "automatic")]
    pub(crate) reinstall: Reinstall,
    /// The longest time between two comparisons of the states of all replicas, such as 10s
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub(crate) compare_every: String,
    #[command(flatten)]
    pub(crate) peer: Peer,
}

/// How large the log is.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LogSize {
    /// Bytes of log at which rows are put into files, so that it can be purged [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) log_bytes: Option<String>,
    /// Bytes of one segment of the log [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) segment_bytes: Option<String>,
}

/// A directory that is made a member.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Founded {
    #[command(flatten)]
    pub(crate) peer: Peer,
    #[command(flatten)]
    pub(crate) log: LogSize,
}

/// What a node does when its state differs from that of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reinstall {
    /// Take the state of another node, up to three times
    Automatic,
    /// Stay in quarantine until `cluster reinstall`
    ByHand,
}

/// How a node takes part in a cluster.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Peer {
    /// Address for the other nodes of the cluster; without it, the node is alone
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) peer: Option<String>,
    /// Where the other nodes reach this one, when that is not where it listens
    #[arg(long, value_name = "HOST:PORT", requires = "peer")]
    pub(crate) advertise: Option<String>,
    /// Peer address of any member: a new directory joins its cluster; repeat for more
    #[arg(long, value_name = "HOST:PORT", requires = "peer")]
    pub(crate) join: Vec<String>,
    /// Id of a new node [default: the next free one, or that of the certificate]
    #[arg(long, value_name = "ID", requires = "peer")]
    pub(crate) node_id: Option<u64>,
    /// Listen only: do not ask for a vote
    #[arg(long, requires = "peer")]
    pub(crate) learner: bool,
    /// Certificate of the authority, in PEM
    #[arg(long, value_name = "FILE", requires_all = ["peer", "peer_cert", "peer_key"])]
    pub(crate) peer_ca: Option<PathBuf>,
    /// This node's certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "peer_ca")]
    pub(crate) peer_cert: Option<PathBuf>,
    /// This node's key, in PEM
    #[arg(long, value_name = "FILE", requires = "peer_ca")]
    pub(crate) peer_key: Option<PathBuf>,
    /// Use a peer address that other machines can reach without certificates
    #[arg(long, requires = "peer")]
    pub(crate) peer_insecure: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// How many servers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub(crate) nodes: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Show the members
    Status,
    /// Make a new directory the first node of a cluster
    Init(Founded),
    /// Make a new directory a member of a cluster; serve it with the same --peer afterwards
    Join(Founded),
    /// Add a node that listens, before it is started
    AddLearner {
        /// Its peer address
        address: String,
        /// Its id [default: the next free one]
        #[arg(long, value_name = "ID")]
        node_id: Option<u64>,
    },
    /// Give learners that have caught up a vote
    Promote {
        /// Their ids
        #[arg(required = true)]
        nodes: Vec<u64>,
    },
    /// Remove nodes, dead or alive
    Remove {
        /// Their ids
        #[arg(required = true)]
        nodes: Vec<u64>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Make a cluster of one of a member's directory, when the majority is lost for good; works on --data-dir
    Recover {
        /// Directory to make; without it, only say what there is
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Give a node that is in quarantine the state of another one; say --connect of that node
    Reinstall,
    /// Hand the leadership to a voter
    TransferLeader {
        /// Its id
        node: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Certs {
    /// Directory of the authority and of what it issues; made when it is not there
    pub(crate) dir: PathBuf,
    /// The cluster, as `alluvium status` shows it; draw an id for a new one
    #[arg(long, value_name = "ID")]
    pub(crate) cluster: Option<String>,
    /// Issue for these nodes
    #[arg(long, value_name = "IDS", value_delimiter = ',', default_value = "1,2,3")]
    pub(crate) nodes: Vec<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Dataset {
    /// Name a dataset and its columns
    Register(Register),
    /// List datasets
    List(AsOf),
    /// Show one dataset and its columns
    Show(Show),
    /// Change columns: all steps or none
    Evolve(Evolve),
    /// End a dataset: its rows, files and history are deleted
    Drop(DropDataset),
}

#[derive(Debug, Args)]
pub(crate) struct AsOf {
    /// Read as of this index
    #[arg(long, value_name = "INDEX")]
    pub(crate) as_of: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The dataset
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) as_of: AsOf,
}

#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Register {
    /// Its name
    pub(crate) name: String,
    /// Take the columns of this file
    #[arg(long, value_name = "FILE", required_unless_present = "column")]
    pub(crate) schema_from: Option<PathBuf>,
    /// A column, such as id:int64:not-null; repeat for more
    #[arg(long, value_name = "NAME:TYPE[:not-null]", conflicts_with = "schema_from")]
    pub(crate) column: Vec<String>,
    /// Key columns, in key order
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub(crate) key: Vec<String>,
    /// Keep its files in this bucket: `local`, each member's own, or one that all members were started with
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub(crate) files_in: String,
    #[command(flatten)]
    pub(crate) condition: Condition,
}

#[derive(Debug, Args)]
pub(crate) struct Evolve {
    /// The dataset
    pub(crate) name: String,
    /// Add a nullable column
    #[arg(long, value_name = "NAME:TYPE")]
    pub(crate) add: Vec<String>,
    /// Give a column a type that holds every value of the old one
    #[arg(long, value_name = "NAME:TYPE")]
    pub(crate) widen: Vec<String>,
    /// Rename a column
    #[arg(long, value_name = "OLD:NEW")]
    pub(crate) rename: Vec<String>,
    /// Drop a column
    #[arg(long, value_name = "NAME")]
    pub(crate) drop: Vec<String>,
    #[command(flatten)]
    pub(crate) condition: Condition,
}

#[derive(Debug, Args)]
pub(crate) struct DropDataset {
    /// The dataset
    pub(crate) name: String,
    /// Do not ask for its name again
    #[arg(long)]
    pub(crate) yes: bool,
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) condition: Condition,
}

/// A condition on the dataset.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Condition {
    /// Do it only if the dataset last changed at this index; 0: only if there is none
    #[arg(long, value_name = "INDEX")]
    pub(crate) expected_index: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// The dataset
    pub(crate) name: String,
    /// Parquet, CSV, NDJSON or Arrow IPC; - for standard input
    pub(crate) file: PathBuf,
    /// The file's format, when its name and first bytes do not say it
    #[arg(long, value_enum)]
    pub(crate) format: Option<FileFormat>,
    #[command(flatten)]
    pub(crate) condition: Condition,
}

/// A file's format.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum FileFormat {
    Parquet,
    Csv,
    Ndjson,
    ArrowFile,
    ArrowStream,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("keys").required(true))]
pub(crate) struct Tombstone {
    /// The dataset
    pub(crate) name: String,
    /// A key: a value for each key column, with commas between; repeat for more
    #[arg(long, value_name = "VALUES", group = "keys", action = ArgAction::Append, allow_negative_numbers = true)]
    pub(crate) key: Vec<String>,
    /// A file with the key columns
    #[arg(long, value_name = "FILE", group = "keys")]
    pub(crate) keys_from: Option<PathBuf>,
    /// A predicate over the dataset's columns
    #[arg(long = "where", value_name = "PREDICATE", group = "keys")]
    pub(crate) predicate: Option<String>,
    /// Count the rows that would be hidden, and hide none
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) condition: Condition,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The dataset
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) condition: Condition,
}

#[derive(Debug, Args)]
pub(crate) struct Expire {
    /// The dataset
    pub(crate) name: String,
    /// The lowest index that can be read afterwards [default: now]
    #[arg(long, value_name = "INDEX")]
    pub(crate) before: Option<u64>,
    #[command(flatten)]
    pub(crate) condition: Condition,
}

#[derive(Debug, Args)]
pub(crate) struct Sql {
    /// The statement; without it, standard input or a shell
    pub(crate) query: Option<String>,
    /// Run the statements of this file
    #[arg(short, long, value_name = "FILE", conflicts_with = "query")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) as_of: AsOf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Show the last entries
    Tail {
        /// How many
        #[arg(short = 'n', long, default_value_t = 20)]
        limit: u32,
    },
    /// Show one entry
    Show {
        /// Its index
        index: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The flights, as Parquet
    #[arg(long, value_name = "FILE")]
    pub(crate) sample: PathBuf,
}
