//! `ebb node add`

use std::collections::BTreeMap;
use std::path::PathBuf;

use boss_api::names::Name;
use boss_api::user::{PowerConfig, RegisterDisk, RegisterNode};
use clap::Args;

use super::show::describe;
use crate::disk::identify;
use crate::ebb::Context;
use crate::exit::{Code, Exit};

#[derive(Debug, Args)]
pub(in crate::ebb) struct Add {
    /// The machine
    #[arg(value_name = "NODE")]
    name: Name,
    /// A disk and its file, such as sda=/srv/pc1/sda.img; the first is the one it boots from; may be repeated.
    /// The serial number is in FILE.serial
    #[arg(long = "disk", value_name = "DISK=FILE", value_parser = disk, num_args = 1.., required = true)]
    disks: Vec<(Name, PathBuf)>,
}

fn disk(text: &str) -> Result<(Name, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("a disk is written as DISK=FILE, such as sda=/srv/pc1/sda.img")?;
    let name: Name = name.parse().map_err(|error: boss_api::BadName| error.to_string())?;
    let path = PathBuf::from(path);
    if path.is_absolute() { Ok((name, path)) } else { Err("boss needs an absolute path".to_owned()) }
}

impl Add {
    pub(super) async fn run(self, context: &Context) -> Result<(), Exit> {
        let mut files = BTreeMap::new();
        let mut disks = Vec::new();
        for (name, path) in self.disks {
            let found = identify(&name, &path).map_err(|error| Exit::because(Code::Usage, &error))?;
            let text =
                path.to_str().ok_or_else(|| Exit::new(Code::Usage, format!("{} is not UTF-8", path.display())))?;
            if files.insert(name.clone(), text.to_owned()).is_some() {
                return Err(Exit::new(Code::Usage, format!("the disk {name} is given twice")));
            }
            disks.push(RegisterDisk { name, serial: found.serial, bytes: found.bytes, sector_size: found.sector_size });
        }
        let request = RegisterNode { name: self.name, power: PowerConfig::Process { disks: files }, disks };
        let node = context.session.client()?.register_node(&request).await?;
        context.output.data(&node, describe)
    }
}
