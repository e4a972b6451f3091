//! The form for a new experiment. What is wrong is said beside what was typed.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use boss_api::user::{CreateExperiment, ImageSelector, VirtualNodeSpec};
use boss_api::{ExperimentName, Name};
use boss_db::{projects, views};
use web::pages::{NewExperimentForm, NewExperimentPage, NodeFields, Problems, ROWS};
use web::parts::Section;
use web::urls;

use super::experiments::frame;
use super::{Page, PageError, show};
use crate::auth::Site;
use crate::auth::authorize::{Resource, Verb, authorize};
use crate::auth::extract::{Fields, Posted, WebUser};
use crate::user_api::experiments::{Place, make};

/// `GET experiments/new`
pub async fn form(State(site): State<Site>, user: WebUser) -> Page {
    let form = NewExperimentForm {
        save_swap_state: true,
        nodes: vec![NodeFields::default(); ROWS],
        ..NewExperimentForm::default()
    };
    let page = page(&site, &user, form, Problems::default()).await?;
    Ok(show(StatusCode::OK, &page))
}

/// `POST experiments/new`
pub async fn make_one(State(site): State<Site>, user: WebUser, posted: Posted) -> Page {
    let mut form = read(&posted.fields);
    if posted.fields.get("do") == Some("more") {
        let more = (form.nodes.len() + ROWS).min(boss_api::user::MAX_VIRTUAL_NODES);
        form.nodes.resize(more.max(form.nodes.len()), NodeFields::default());
        return Ok(show(StatusCode::OK, &page(&site, &user, form, Problems::default()).await?));
    }
    let (request, rows) = match parse(&form) {
        Ok(parsed) => parsed,
        Err(problems) => return Ok(show(StatusCode::BAD_REQUEST, &page(&site, &user, form, problems).await?)),
    };
    match make(&site, &user.subject, &request).await {
        Ok(_) => {
            let name = ExperimentName { pid: request.pid, eid: request.eid };
            Ok(Redirect::to(&urls::experiment(&name)).into_response())
        }
        Err(refused) => {
            refused.error.log();
            let text = Some(refused.error.told().message.clone());
            let mut problems = Problems::default();
            match refused.place {
                Place::Project => problems.pid = text,
                Place::Name => problems.eid = text,
                Place::Nodes => problems.nodes = text,
                Place::Node(index) => {
                    let row = rows.get(index).copied().unwrap_or(index);
                    problems.rows.extend(text.map(|text| (row, text)));
                }
                Place::Elsewhere => problems.other = text,
            }
            Ok(show(refused.error.status(), &page(&site, &user, form, problems).await?))
        }
    }
}

async fn page(
    site: &Site,
    user: &WebUser,
    form: NewExperimentForm,
    problems: Problems,
) -> Result<NewExperimentPage, PageError> {
    authorize(&user.subject, Verb::See, Resource::Site)?;
    let mut conn = site.app.pool.acquire().await?;
    // Who may do everything may also make experiments in every project.
    let everywhere = match user.subject.user.role {
        boss_api::user::UserRole::Admin => projects::all(&mut conn).await?,
        boss_api::user::UserRole::Member | boss_api::user::UserRole::Operator => {
            user.subject.projects.iter().map(|own| own.project.clone()).collect()
        }
    };
    let projects = everywhere.into_iter().map(|project| project.pid);
    Ok(NewExperimentPage {
        frame: frame(user, Section::Experiments),
        form,
        problems,
        projects: projects.filter(|pid| pid.as_str() != projects::SYSTEM).collect(),
        images: views::images(&mut conn, user.subject.scope()).await?,
    })
}

fn read(fields: &Fields) -> NewExperimentForm {
    let images = fields.all("image");
    let row = |(vname, image): (&str, &str)| NodeFields { vname: vname.trim().into(), image: image.trim().into() };
    NewExperimentForm {
        pid: fields.text("pid").into(),
        eid: fields.text("eid").into(),
        save_swap_state: fields.is_ticked("save"),
        // A row whose image is missing keeps its place.
        nodes: fields.all("vname").zip(images.chain(std::iter::repeat(""))).map(row).collect(),
    }
}

/// Parses the form, and returns with it which row each node came from.
fn parse(form: &NewExperimentForm) -> Result<(CreateExperiment, Vec<usize>), Problems> {
    let mut problems = Problems::default();
    let mut name = |text: &str, problem: fn(&mut Problems) -> &mut Option<String>| match Name::new(text) {
        Ok(name) => Some(name),
        Err(error) => {
            *problem(&mut problems) = Some(error.to_string());
            None
        }
    };
    let pid = name(&form.pid, |problems| &mut problems.pid);
    let eid = name(&form.eid, |problems| &mut problems.eid);
    let (mut nodes, mut rows) = (Vec::new(), Vec::new());
    for (index, fields) in form.nodes.iter().enumerate().filter(|(_, fields)| !fields.vname.is_empty()) {
        let parsed = Name::new(&fields.vname).map_err(|error| error.to_string()).and_then(|vname| {
            let image = fields.image.parse::<ImageSelector>();
            let image = image.map_err(|_| "choose a base image for this node".to_owned())?;
            Ok(VirtualNodeSpec { vname, image })
        });
        match parsed {
            Ok(node) => {
                nodes.push(node);
                rows.push(index);
            }
            Err(problem) => {
                problems.rows.insert(index, problem);
            }
        }
    }
    if nodes.is_empty() && problems.rows.is_empty() {
        problems.nodes = Some("an experiment has at least one node: name one".into());
    }
    match (pid, eid) {
        (Some(pid), Some(eid)) if !problems.any() => {
            Ok((CreateExperiment { pid, eid, save_swap_state: form.save_swap_state, nodes }, rows))
        }
        _ => Err(problems),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(nodes: &[(&str, &str)]) -> NewExperimentForm {
        let node = |(vname, image): &(&str, &str)| NodeFields { vname: (*vname).into(), image: (*image).into() };
        NewExperimentForm {
            pid: "lab".into(),
            eid: "bench".into(),
            save_swap_state: true,
            nodes: nodes.iter().map(node).collect(),
        }
    }

    #[test]
    fn empty_rows_are_ignored_and_others_keep_their_place() {
        let (request, rows) =
            parse(&form(&[("", "x"), ("client", "debian"), ("", ""), ("server", "debian/2")])).unwrap();
        assert_eq!(rows, [1, 3]);
        assert_eq!(request.nodes[1].image.version, Some(2));
    }

    #[test]
    fn each_problem_is_beside_its_field() {
        let mut bad = form(&[("client", "debian"), ("Bad Name", "debian"), ("server", "")]);
        bad.eid = "a/b".into();
        let problems = parse(&bad).unwrap_err();
        assert!(problems.eid.unwrap().contains("a/b"));
        assert_eq!(problems.rows.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert!(parse(&form(&[("", "debian")])).unwrap_err().nodes.is_some());
    }
}
