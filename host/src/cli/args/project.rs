//! The arguments of `wpool new` and `wpool build`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::choices::{Language, World};

#[derive(Debug, Args)]
pub(in crate::cli) struct NewArgs {
    /// The directory of the project, whose last part is its name
    #[arg(value_name = "DIR")]
    pub(in crate::cli) dir: PathBuf,

    /// The language
    #[arg(long, value_enum, value_name = "LANG")]
    pub(in crate::cli) lang: Language,

    /// What the project is: task: a function of a record; typed: functions with types of their own; command:
    /// a program that reads standard input
    #[arg(long, value_enum, value_name = "WORLD", default_value_t, hide_possible_values = true)]
    pub(in crate::cli) world: World,

    /// The crate wpool-guest, which is not published: the directory `guest` of wpool's repository, or the
    /// repository's URL [default: the directory that this wpool was compiled from]
    #[arg(long, value_name = "PATH|URL")]
    pub(in crate::cli) sdk: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BuildArgs {
    /// The directory of the project
    #[arg(value_name = "DIR", default_value = ".")]
    pub(in crate::cli) dir: PathBuf,
}
