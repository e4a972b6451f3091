//! The one place that decides who may do what. What is not written here is refused.

use boss_api::ids::ProjectId;
use boss_api::user::UserRole;
use boss_api::{ErrorCode, Name};
use boss_db::projects::{Membership, Project, ProjectRole, SYSTEM};
use boss_db::users::User;

use crate::error::AppError;

/// Who is asking.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The user.
    pub user: User,
    /// The projects the user is a member of, and what there.
    pub projects: Vec<Membership>,
}

impl Subject {
    fn is_member(&self, project: ProjectId) -> bool {
        self.projects.iter().any(|own| own.project.id == project)
    }

    fn leads(&self, project: ProjectId) -> bool {
        self.projects.iter().any(|own| own.project.id == project && own.role == ProjectRole::Leader)
    }

    /// Returns whose experiments and images the user sees: nothing means all.
    pub fn scope(&self) -> Option<boss_api::ids::UserId> {
        match self.user.role {
            UserRole::Admin | UserRole::Operator => None,
            UserRole::Member => Some(self.user.id),
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// To look at it.
    See,
    /// To change it, or to have something done with it.
    Change,
    /// To deal with what is held: to let it go on, or to keep it. Loses nothing.
    Attend,
    /// To give up what could not be saved.
    Discard,
}

/// Of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// What a signed-in user sees of the site: own lists, the list of machines.
    Site,
    /// A project: making experiments in it.
    Project(ProjectId),
    /// An experiment, its jobs, swap points and events; by its project.
    Experiment(ProjectId),
    /// The machine of an experiment, by that experiment's project.
    MachineOf(ProjectId),
    /// Machines nobody has, and registering them.
    Machines,
    /// The images of a project.
    Images(&'a Project),
    /// The bytes of an image of a project.
    ImageBytes(&'a Project),
    /// The bytes of what was saved of an experiment; by its project.
    SavedBytes(ProjectId),
    /// The bytes of all objects in the store, whatever they are of.
    Objects,
    /// Site variables.
    Settings,
}

/// That [`authorize`] said yes. Only it makes one.
#[derive(Clone, Copy, Debug)]
pub struct Proof(());

/// Decides whether a subject may.
///
/// # Errors
/// [`AppError`]: not found where knowing that it exists would tell too much, else not allowed.
pub fn authorize(subject: &Subject, verb: Verb, resource: Resource<'_>) -> Result<Proof, AppError> {
    use UserRole::{Admin, Member, Operator};
    let role = subject.user.role;
    let may = match (resource, verb, role) {
        (_, _, Admin) => true,
        (Resource::Site, Verb::See, Member | Operator) => true,
        // An operator deals with machines, and so sees whose work is on them, and lets them go on.
        (Resource::Experiment(_), Verb::See | Verb::Attend, Operator) => true,
        (Resource::MachineOf(_), Verb::Attend, Operator) => true,
        (Resource::Project(project), Verb::See | Verb::Change, Member | Operator) => subject.is_member(project),
        (
            Resource::Experiment(project) | Resource::MachineOf(project),
            Verb::See | Verb::Change | Verb::Attend,
            Member | Operator,
        ) => subject.is_member(project),
        (Resource::Experiment(project) | Resource::MachineOf(project), Verb::Discard, Member | Operator) => {
            subject.leads(project)
        }
        (Resource::Images(_), Verb::See, Operator) => true,
        (Resource::Images(project), Verb::See, Member) => {
            project.pid.as_str() == SYSTEM || subject.is_member(project.id)
        }
        (Resource::Images(project), Verb::Change, Member | Operator) => {
            project.pid.as_str() != SYSTEM && subject.is_member(project.id)
        }
        // What is in an image or on a saved disk is for those whose it is: nobody deals with machines by reading it.
        (Resource::ImageBytes(project), Verb::See, Member | Operator) => {
            project.pid.as_str() == SYSTEM || subject.is_member(project.id)
        }
        (Resource::SavedBytes(project), Verb::See, Member | Operator) => subject.is_member(project),
        (Resource::Machines, Verb::See | Verb::Attend, Operator) => true,
        (Resource::Settings, Verb::See, Operator) => true,
        (Resource::Site, Verb::Change, Member | Operator)
        | (Resource::Machines | Resource::Settings, Verb::Change, Operator)
        | (Resource::Machines | Resource::Settings, Verb::See | Verb::Change, Member)
        | (Resource::Objects, Verb::See | Verb::Change, Member | Operator)
        | (Resource::ImageBytes(_) | Resource::SavedBytes(_), Verb::Change, Member | Operator)
        | (Resource::Machines, Verb::Discard, Operator)
        | (Resource::Machines, Verb::Attend | Verb::Discard, Member)
        | (
            Resource::Site
            | Resource::Project(_)
            | Resource::Images(_)
            | Resource::ImageBytes(_)
            | Resource::SavedBytes(_)
            | Resource::Objects
            | Resource::Settings,
            Verb::Attend | Verb::Discard,
            Member | Operator,
        ) => false,
    };
    if may { Ok(Proof(())) } else { Err(refusal(subject, verb, resource)) }
}

fn refusal(subject: &Subject, verb: Verb, resource: Resource<'_>) -> AppError {
    let user = &subject.user.name;
    let not_allowed =
        |what: &str| AppError::new(ErrorCode::NotAllowed, format!("{user} may not {what}: ask an admin of the site"));
    match resource {
        Resource::Experiment(project) | Resource::MachineOf(project)
            if verb == Verb::Discard && (subject.is_member(project) || subject.user.role == UserRole::Operator) =>
        {
            let text = format!("{user} may not give up what could not be saved: ask a leader of the project");
            AppError::new(ErrorCode::NotAllowed, text)
        }
        Resource::Project(_) => AppError::not_found("this project"),
        // An operator sees it anyway.
        Resource::Experiment(_) if subject.user.role == UserRole::Operator => not_allowed("change this experiment"),
        Resource::Experiment(_) => AppError::not_found("this experiment"),
        Resource::Images(project) if !subject.is_member(project.id) && project.pid.as_str() != SYSTEM => {
            AppError::not_found("this image")
        }
        Resource::Images(_) => not_allowed("change images of this project"),
        Resource::MachineOf(_) => not_allowed("use a machine of another project's experiment"),
        Resource::Machines => not_allowed("register machines, or deal with those that no experiment has"),
        Resource::ImageBytes(_) | Resource::SavedBytes(_) => AppError::not_found("this object"),
        Resource::Objects => not_allowed("put objects into the store"),
        Resource::Settings => not_allowed("deal with settings of the site"),
        Resource::Site => not_allowed("do this"),
    }
}

/// Refuses a machine's secrets of others: what a member sees of a machine that is not in an own experiment.
pub fn sees_machine_of(subject: &Subject, pid: Option<&Name>) -> bool {
    match subject.user.role {
        UserRole::Admin | UserRole::Operator => true,
        UserRole::Member => pid.is_some_and(|pid| subject.projects.iter().any(|own| own.project.pid == *pid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::OffsetDateTime;
    use uuid::Uuid;

    fn project(number: u128, pid: &str) -> Project {
        Project { id: ProjectId::new(Uuid::from_u128(number)), pid: pid.parse().unwrap() }
    }

    fn subject(role: UserRole) -> Subject {
        let user = User {
            id: boss_api::ids::UserId::new(Uuid::from_u128(9)),
            name: "ann".parse().unwrap(),
            role,
            created_at: OffsetDateTime::UNIX_EPOCH,
        };
        Subject { user, projects: vec![Membership { project: project(1, "own"), role: ProjectRole::Member }] }
    }

    /// Every rule once: (resource, who may see, change, attend to what is held, discard it); `m` own member, `l` own
    /// leader, `o` operator who is no member, `a` admin.
    #[test]
    fn the_table_of_rights() {
        let (own, other, system) = (project(1, "own"), project(2, "other"), project(3, SYSTEM));
        let mut outsider_operator = subject(UserRole::Operator);
        outsider_operator.projects.clear();
        let mut leader = subject(UserRole::Member);
        leader.projects[0].role = ProjectRole::Leader;
        let people = [
            ("m", subject(UserRole::Member)),
            ("l", leader),
            ("o", outsider_operator),
            ("a", subject(UserRole::Admin)),
        ];
        let who = |verb, resource| -> String {
            people.iter().filter(|(_, who)| authorize(who, verb, resource).is_ok()).map(|(letter, _)| *letter).collect()
        };
        let table = [
            (Resource::Site, "mloa", "a", "a", "a"),
            (Resource::Project(own.id), "mla", "mla", "a", "a"),
            (Resource::Project(other.id), "a", "a", "a", "a"),
            (Resource::Experiment(own.id), "mloa", "mla", "mloa", "la"),
            (Resource::Experiment(other.id), "oa", "a", "oa", "a"),
            (Resource::MachineOf(own.id), "mla", "mla", "mloa", "la"),
            (Resource::MachineOf(other.id), "a", "a", "oa", "a"),
            (Resource::Machines, "oa", "a", "oa", "a"),
            (Resource::Images(&own), "mloa", "mla", "a", "a"),
            (Resource::Images(&other), "oa", "a", "a", "a"),
            (Resource::Images(&system), "mloa", "a", "a", "a"),
            (Resource::ImageBytes(&own), "mla", "a", "a", "a"),
            (Resource::ImageBytes(&other), "a", "a", "a", "a"),
            (Resource::ImageBytes(&system), "mloa", "a", "a", "a"),
            (Resource::SavedBytes(own.id), "mla", "a", "a", "a"),
            (Resource::SavedBytes(system.id), "a", "a", "a", "a"),
            (Resource::Objects, "a", "a", "a", "a"),
            (Resource::Settings, "oa", "a", "a", "a"),
        ];
        for (resource, see, change, attend, discard) in table {
            assert_eq!(who(Verb::See, resource), see, "see {resource:?}");
            assert_eq!(who(Verb::Change, resource), change, "change {resource:?}");
            assert_eq!(who(Verb::Attend, resource), attend, "attend {resource:?}");
            assert_eq!(who(Verb::Discard, resource), discard, "discard {resource:?}");
        }
    }

    #[test]
    fn what_is_hidden_is_not_found() {
        let member = subject(UserRole::Member);
        let other = project(2, "other");
        for hidden in [
            Resource::Project(other.id),
            Resource::Experiment(other.id),
            Resource::Images(&other),
            Resource::ImageBytes(&other),
            Resource::SavedBytes(other.id),
        ] {
            let refusal = authorize(&member, Verb::Change, hidden).unwrap_err();
            assert_eq!(refusal.told().code, ErrorCode::NotFound, "{hidden:?}");
        }
        let refusal = authorize(&member, Verb::Change, Resource::Settings).unwrap_err();
        assert_eq!(refusal.told().code, ErrorCode::NotAllowed);
    }
}
