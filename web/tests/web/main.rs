//! Every page with sample data: what it must say, and what every page must be.

#[expect(clippy::needless_pass_by_value, reason = "JSON written in place reads better without borrows")]
mod sample;

use web::Template as _;

fn page(name: &str) -> String {
    sample::all().into_iter().find(|(own, _)| *own == name).expect("a sample page").1
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let start = text.find(from).unwrap_or_else(|| panic!("{from} is missing"));
    let rest = &text[start..];
    &rest[..rest.find(to).unwrap_or(rest.len())]
}

#[test]
fn every_page_holds_what_the_policy_and_the_readers_need() {
    for (name, html) in sample::all() {
        for forbidden in ["<script", "<style", " style=", " onclick", "javascript:", "http://", "https://"] {
            assert!(!html.contains(forbidden), "{name} holds {forbidden}");
        }
        assert!(html.contains("<html lang=\"en\">") && html.contains("name=\"viewport\""), "{name}");
        assert!(html.contains("class=\"skip\" href=\"#main\"") && html.contains("<main id=\"main\">"), "{name}");
        assert_eq!(html.matches("<h1").count(), 1, "{name} has one heading");
        assert_eq!(html.matches("<table").count(), html.matches("<caption").count(), "{name}");
        for cell in html.split("<th").skip(1).filter(|cell| !cell.starts_with("ead")) {
            assert!(cell.starts_with(" scope=\""), "{name}: <th{}", &cell[..30]);
        }
        for form in html.split("<form").skip(1) {
            let tag = form.split('>').next().unwrap();
            assert!(tag.contains("method=\"post\""), "{name}: {tag}");
            let body = form.split("</form>").next().unwrap();
            assert!(body.contains("name=\"csrf\" value=\"sample-form-token\""), "{name}: {tag}");
        }
        for field in html.split("<input ").skip(1).filter(|field| !field.contains("type=\"hidden\"")) {
            let id = between(field, "id=\"", "\" ").trim_start_matches("id=\"");
            assert!(html.contains(&format!("for=\"{id}\"")), "{name}: {id} has no label");
        }
        for bar in html.split("<progress").skip(1) {
            assert!(bar.starts_with(" aria-label="), "{name}");
        }
    }
}

#[test]
fn only_a_running_job_makes_a_page_ask_again() {
    for (name, html) in sample::all() {
        let refreshes = html.contains("<meta http-equiv=\"refresh\" content=\"3\">");
        assert_eq!(refreshes, matches!(name, "saving" | "swapping-in"), "{name}");
    }
}

#[test]
fn a_swap_out_under_way_says_what_is_done_of_what() {
    let html = page("saving");
    assert!(html.contains("Saving swap point 6"));
    assert!(
        html.contains("41 of 120 GiB, 1.0 GiB/s, 1 min to 1 min 30 s left"),
        "{}",
        between(&html, "<progress", "</td>")
    );
    assert!(html.contains("scanning and sending") && html.contains("verifying what was stored"));
    assert!(html.contains("812 MiB") && html.contains("301 MiB"));
    let steps = between(&html, "<ol class=\"steps\">", "</ol>");
    let now = between(steps, "aria-current=\"step\"", "</li>");
    assert!(now.contains("Scan and send") && now.contains("1 of 2"), "{now}");
    let actions = between(&html, "<div class=\"actions\">", "</div>");
    assert_eq!(actions.matches("<button disabled>").count(), 2, "nothing else can be asked for meanwhile");
    assert!(!html.contains(">Terminate</button>"));
    assert!(
        html.contains("Last save: swap point 5, Fri 20 Nov 2026, 18:02:22 UTC, 1.5 GiB for 2 disks, took 1 min 12 s.")
    );
}

#[test]
fn what_is_held_says_why_who_and_what_next() {
    let html = page("held");
    let section = between(&html, "<h2 id=\"h-held\">", "</section>");
    for words in ["another digest", "an operator", "press Retry", "this machine is the only copy", "on pc209"] {
        assert!(section.contains(words), "{words}");
    }
    for action in ["retry", "keep", "discard"] {
        assert!(section.contains(&format!("action=\"/experiments/systems-lab/lidar-bench/{action}\"")), "{action}");
    }
    assert!(section.contains("bob wants it left as it is until Tue 24 Nov 2026, 23:59:59 UTC: memory is exchanged"));
    let retry = section.find(">Retry</button>").unwrap();
    assert!(section.find(">Give it up</button>").unwrap() < retry, "what is final is folded away above it");
    assert_eq!(section.matches("<details>").count(), 2, "nothing is open that is not asked for");
    assert!(html.contains("cannot be taken back any more: client was given back"));
    assert!(html.contains("the saved ones are released") && html.contains("decided when the swap-out was asked for"));
    assert!(html.contains("12 of 92 GiB</span>"), "what stands still has no rate and no time left");
    assert!(html.contains("saved, its machine was given back"));
    assert!(!section.contains("with <b>") && section.contains("&#60;b&#62;"), "text from outside is escaped");
    let badge = between(&html, "<span class=\"badge bad\">", "</span>held</span>");
    assert!(badge.contains("\u{2715}"), "a mark and a word besides the colour");
}

#[test]
fn a_held_swap_in_is_given_up_by_who_may_and_says_what_that_costs() {
    let html = page("held-swap-in");
    let section = between(&html, "<h2 id=\"h-held\">", "</section>");
    assert!(section.contains("Running, or started: client. Only a leader of systems-lab can give the swap-in up."));
    assert!(section.contains("Nothing of the experiment that is not in the store as well"));
    let mut page = sample::held_swap_in();
    page.may_discard = true;
    let html = page.render().unwrap();
    assert!(html.contains("What was written there since the swap-in will be <b>lost</b>"));
    page.view.nodes[0].node_state = Some(boss_api::user::NodeStateView::Restoring);
    page.may_discard = false;
    let html = page.render().unwrap();
    assert!(html.contains(">Give the swap-in up</button>") && html.contains("What was saved stays"));
}

#[test]
fn a_swap_out_can_be_taken_back_as_long_as_nothing_is_overwritten() {
    let html = page("saving");
    assert!(html.contains(">Take the swap-out back</button>"));
    let mut page = sample::saving();
    page.view.nodes[1].node_state = Some(boss_api::user::NodeStateView::Sanitizing);
    let html = page.render().unwrap();
    assert!(html.contains("cannot be taken back any more: server is being overwritten."));
    // Where it is held, this is among what can be done about it, and nowhere else.
    let mut held = sample::held();
    held.view.nodes.remove(0);
    let html = held.render().unwrap();
    let section = between(&html, "<h2 id=\"h-held\">", "</section>");
    assert!(section.contains(">Take the swap-out back</button>"));
    assert_eq!(html.matches("Take the swap-out back</button>").count(), 1);
    let html = page.render().unwrap();
    assert!(!html.contains(">Take the swap-out back</button>"));
}

#[test]
fn a_swap_out_that_saves_nothing_asks_first() {
    let html = page("active-unsaved");
    assert!(html.contains("<a class=\"button\" href=\"/experiments/systems-lab/lidar-bench/swap-out\">Swap out</a>"));
    assert!(!between(&html, "name=\"save\"", ">").contains("checked"));
    let html = page("confirm");
    for words in
        ["will be lost", "<b>client</b> on pc214", "Nothing was ever saved", "value=\"lidar\"", "nothing was done"]
    {
        assert!(html.contains(words), "{words}");
    }
    // With the box on the button sends at once.
    let mut saved = sample::active_unsaved();
    saved.view.save_swap_state = true;
    let html = saved.render().unwrap();
    assert!(html.contains("action=\"/experiments/systems-lab/lidar-bench/swap-out\""));
    assert!(between(&html, "name=\"save\"", ">").contains("checked"));
}

#[test]
fn somebody_who_may_only_look_gets_no_buttons() {
    let mut page = sample::held();
    (page.may_change, page.may_attend, page.may_discard) = (false, false, false);
    let html = page.render().unwrap();
    let main = between(&html, "<main", "</main>");
    for (form, _) in main.match_indices("<button") {
        assert!(main[form..].starts_with("<button class=\"quiet\" disabled>"), "{}", &main[form..form + 60]);
    }
}

#[test]
fn problems_stand_beside_what_was_typed() {
    let html = page("new-experiment");
    let name = between(&html, "id=\"eid\"", "</p>");
    assert!(name.contains("value=\"lidar bench\"") && name.contains("aria-invalid") && name.contains("is not a name"));
    let row = between(&html, "id=\"vname-1\"", "</li>");
    assert!(row.contains("value=\"Server 1\"") && row.contains("id=\"row-1-problem\""), "{row}");
    assert!(row.contains("<option value=\"lidar-base/2\" selected>"), "the choice is kept");
    assert!(!html.contains("lidar-base/1\""), "retired images are not offered");
    assert!(html.contains("<title>Error: "));
    let html = page("sign-in");
    assert!(html.contains("value=\"ann\"") && html.contains("role=\"alert\"") && !html.contains("password\" value"));
}

#[test]
fn failures_that_hold_nothing_are_said_too() {
    let html = page("swapped");
    assert!(html.contains("The last swap-in did not work") && html.contains("no 2 free nodes"));
    assert!(html.contains("1 verified, 1 failed"));
    let actions = between(&html, "<div class=\"actions\">", "</div>");
    assert!(actions.contains("<button>Swap in</button>") && actions.contains("<button disabled>Swap out</button>"));
}

#[test]
fn the_steps_stay_those_of_saving_until_every_machine_is_given_back() {
    let mut page = sample::saving();
    page.view.save_swap_state = false;
    page.view.last_point.as_mut().unwrap().state = boss_api::user::SwapPointState::Complete;
    for capture in &mut page.view.last_point.as_mut().unwrap().captures {
        capture.state = "verified".into();
    }
    for node in &mut page.view.nodes {
        node.node_state = Some(boss_api::user::NodeStateView::Sanitizing);
    }
    let html = page.render().unwrap();
    let steps = between(&html, "<ol class=\"steps\">", "</ol>");
    assert!(between(steps, "aria-current=\"step\"", "</li>").contains("Sanitize"), "{steps}");
    // A swap-out without saving has a swap point behind it that is not its own.
    let mut page = sample::saving();
    page.view.last_point.as_mut().unwrap().opened_at -= time::Duration::days(1);
    let html = page.render().unwrap();
    assert!(html.contains("Swapping out") && !between(&html, "<ol class=\"steps\">", "</ol>").contains("Verify"));
}
