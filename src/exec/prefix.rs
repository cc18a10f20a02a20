//! Runs that begin alike: the first of them goes as far as all of them go together, the others start from its checkpoint.

use super::{coordinator::Task, images, journal};
use crate::{
    error::{Context, Result},
    event::Event,
    tensor::safetensors::write_atomically,
    train::prefix::{common_epochs, trunk},
};
use std::{collections::BTreeMap, io::Write, path::Path};

/// A run that waits for another one to come as far as both go together.
pub struct Follower {
    /// The run it waits for.
    pub leader: String,
    pub epoch: u32,
    pub task: Task,
}

/// Finds runs that begin alike among those that have not begun, for devices of this kind. Leaders get the epoch at which
/// they pause.
pub fn arrange(tasks: Vec<Task>, cache: &Path, device: &str) -> Result<(Vec<Task>, Vec<Follower>)> {
    let mut groups = BTreeMap::<(u64, String), Vec<usize>>::new();
    for (index, task) in tasks.iter().enumerate().filter(|(_, task)| task.offset == 0) {
        groups.entry((task.run.seed, trunk(&task.run.spec)?)).or_default().push(index);
    }
    // By follower: its leader and the epoch.
    let mut follows = BTreeMap::<usize, (usize, u32)>::new();
    for group in groups.into_values().filter(|group| group.len() > 1) {
        let leader = group[0];
        if let Some((epoch, others)) = branch_point(&tasks, &group, cache, device)? {
            follows.extend(others.into_iter().map(|other| (other, (leader, epoch))));
        }
    }
    let ids: Vec<String> = tasks.iter().map(|task| task.run.id.clone()).collect();
    let (mut leaders, mut followers) = (Vec::new(), Vec::new());
    for (index, mut task) in tasks.into_iter().enumerate() {
        match follows.get(&index) {
            Some((leader, epoch)) => followers.push(Follower { leader: ids[*leader].clone(), epoch: *epoch, task }),
            None => {
                task.until = follows.values().find(|(leader, _)| *leader == index).map(|(_, epoch)| *epoch);
                leaders.push(task);
            }
        }
    }
    Ok((leaders, followers))
}

/// The epoch at which branching from a group's first run saves most, and who then follows it.
fn branch_point(tasks: &[Task], group: &[usize], cache: &Path, device: &str) -> Result<Option<(u32, Vec<usize>)>> {
    let first = &tasks[group[0]].run.spec;
    let data = images::open(first, cache, device, &|_| ())?;
    let common: Vec<(usize, u32)> =
        group[1..].iter().map(|&other| (other, common_epochs(first, &tasks[other].run.spec, &data))).collect();
    let followers = |epoch: u32| common.iter().filter(move |(_, common)| *common >= epoch).map(|(other, _)| *other);
    let saved = |epoch: u32| u64::from(epoch) * followers(epoch).count() as u64;
    let best = common.iter().map(|(_, epoch)| *epoch).filter(|epoch| *epoch > 0).max_by_key(|epoch| saved(*epoch));
    Ok(best.map(|epoch| (epoch, followers(epoch).collect())))
}

/// Gives a follower what its leader has come to: checkpoints, and a journal of the epochs they share.
pub fn branch(leader: &Task, follower: &Follower) -> Result<()> {
    let (from, to) = (&leader.dir, &follower.task.dir);
    let place = || format!("cannot branch {} from {}", to.display(), from.display());
    // The journal first: without its checkpoint a run begins anew, without its journal it would have no past.
    std::fs::create_dir_all(to.join("checkpoints")).context(place)?;
    let mut writer = journal::Writer::open(to, follower.task.attempt)?;
    for record in journal::read(from, 0)?.records {
        let shared = matches!(
            record.event,
            Event::Step { .. } | Event::Epoch { .. } | Event::Checkpoint { .. } | Event::Warning { .. }
        );
        if shared {
            writer.append(record.event)?;
        }
    }
    let (epoch, leader) = (follower.epoch, &leader.run.id);
    let message = format!(
        "up to epoch {epoch} its numbers are those of run {leader}: both do the same until then (share_prefix)"
    );
    writer.append(Event::Warning { message })?;
    drop(writer);
    for entry in std::fs::read_dir(from.join("checkpoints")).context(place)? {
        let path = entry.context(place)?.path();
        let Some(name) = path.file_name().filter(|name| *name != "previous.safetensors") else { continue };
        let bytes = std::fs::read(&path).context(place)?;
        write_atomically(&to.join("checkpoints").join(name), |file| Ok(file.write_all(&bytes)?))?;
    }
    Ok(())
}
