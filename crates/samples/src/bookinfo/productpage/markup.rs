//! The pages as HTML. What comes from other services or from the user is escaped.

use std::fmt::Write;

use http::StatusCode;
use serde_json::{Value, json};

use super::Told;
use crate::bookinfo::client::Backend;
use crate::page::escape;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

const TITLE: &str = "The Comedy of Errors";
const SUMMARY: &str = "<a href=\"https://en.wikipedia.org/wiki/The_Comedy_of_Errors\">Wikipedia Summary</a>: The Comedy of \
    Errors is one of <b>William Shakespeare's</b> early plays. It is his shortest and one of his most farcical comedies, with \
    a major part of the humour coming from slapstick and mistaken identity, in addition to puns and word play.";

/// The book, as the API describes it.
pub(super) fn product() -> Value {
    json!({ "id": 0, "title": TITLE, "descriptionHtml": SUMMARY })
}

/// `/`: which services there are, and two ways to the shop.
pub(super) fn index(details: &Backend, reviews: &Backend, ratings: &Backend) -> String {
    let row = |service: &Backend, children: &str| {
        format!("<tr><td>{}</td><td>{}</td><td>{children}</td></tr>\n", escape(&service.url()), service.name)
    };
    let rows = row(details, "") + &row(reviews, ratings.name) + &row(ratings, "");
    document(&format!(
        "<main>\n<h3>Hello! This is a simple bookstore application consisting of three services as shown below</h3>\n\
         <table>\n<tr><th>name</th><th>endpoint</th><th>children</th></tr>\n{rows}</table>\n\
         <h4>Click on one of the links below to auto generate a request to the backend as a real user or a tester</h4>\n\
         <p><a href=\"/productpage?u=normal\">Normal user</a></p>\n<p><a href=\"/productpage?u=test\">Test user</a></p>\n\
         </main>\n"
    ))
}

/// `/productpage`: the book, with what the other services say of it.
pub(super) fn front(user: Option<&str>, details: &Told, reviews: &Told) -> String {
    document(&format!(
        "{}{}<main>\n<h3 class=\"title\">{TITLE}</h3>\n<p><b>Summary:</b> {SUMMARY}</p>\n<div class=\"columns\">\n\
         <section id=\"details\">\n{}</section>\n<section id=\"reviews\">\n{}</section>\n</div>\n</main>\n",
        navigation(user),
        DIALOG,
        self::details(details),
        self::reviews(reviews),
    ))
}

fn document(body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Simple Bookstore App</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

/// Filled in by whoever signs in; the password is not read.
const DIALOG: &str = "<dialog id=\"login-modal\">\n<h4>Please sign in</h4>\n\
    <form method=\"post\" action=\"login\" name=\"login_form\">\n\
    <p><input type=\"text\" id=\"username\" name=\"username\" placeholder=\"User Name\" required></p>\n\
    <p><input type=\"password\" id=\"password\" name=\"passwd\" placeholder=\"Password\"></p>\n\
    <p><button type=\"submit\" class=\"primary\">Sign in</button></p>\n</form>\n</dialog>\n";

fn navigation(user: Option<&str>) -> String {
    let account = match user {
        Some(user) => format!("<span id=\"user\">{}</span> (<a href=\"logout\">sign out</a>)", escape(user)),
        None => {
            format!("<button id=\"sign-in-button\" class=\"primary\">Sign in</button>\n<script>\n{SCRIPT}</script>")
        }
    };
    format!("<nav><span class=\"brand\">BookInfo Sample</span><span class=\"account\">{account}</span></nav>\n")
}

fn details(told: &Told) -> String {
    if told.status != StatusCode::OK {
        return error("details", &told.json);
    }
    let rows = [
        ("Type", "type"),
        ("Pages", "pages"),
        ("Publisher", "publisher"),
        ("Language", "language"),
        ("ISBN-10", "ISBN-10"),
        ("ISBN-13", "ISBN-13"),
    ];
    let rows = rows.map(|(title, field)| format!("<dt>{title}:</dt><dd>{}</dd>\n", text(&told.json, field)));
    format!("<h4>Book Details</h4>\n<dl>\n{}</dl>\n", rows.concat())
}

fn reviews(told: &Told) -> String {
    if told.status != StatusCode::OK {
        return error("reviews", &told.json);
    }
    let mut html = "<h4>Book Reviews</h4>\n".to_owned();
    for review in told.json.get("reviews").and_then(Value::as_array).into_iter().flatten() {
        let (said, reviewer) = (text(review, "text"), text(review, "reviewer"));
        // Writing to a string cannot fail.
        let _ = write!(html, "<blockquote>\n<p>{said}</p>\n<small>{reviewer}</small>\n");
        html += &review.get("rating").map(rating).unwrap_or_default();
        html += "</blockquote>\n";
    }
    let pod = text(&told.json, "podname");
    if !pod.is_empty() {
        let _ = write!(html, "<p class=\"served\">Reviews served by: <u>{pod}</u>");
        let cluster = text(&told.json, "clustername");
        if !cluster.is_empty() && cluster != "null" {
            let _ = write!(html, " on cluster <u>{cluster}</u>");
        }
        html += "</p>\n";
    }
    html
}

/// How many stars there are in the colour that the reviews have them in, or why there are none.
fn rating(rating: &Value) -> String {
    let Some(stars) = rating.get("stars").and_then(Value::as_u64) else {
        return match rating.get("error") {
            Some(_) => format!("<p class=\"error\">{}</p>\n", text(rating, "error")),
            None => String::new(),
        };
    };
    // Five are all there are.
    let full = usize::try_from(stars).unwrap_or(usize::MAX).min(5);
    let (full, empty) = (FULL.repeat(full), EMPTY.repeat(5 - full));
    format!("<font color=\"{}\" class=\"stars\">{full}{empty}</font>\n", text(rating, "color"))
}

const FULL: &str = "<span class=\"glyphicon glyphicon-star\">&#9733;</span>";
const EMPTY: &str = "<span class=\"glyphicon glyphicon-star-empty\">&#9734;</span>";

fn error(what: &str, told: &Value) -> String {
    format!("<h4 class=\"error\">Error fetching product {what}!</h4>\n<p>{}</p>\n", text(told, "error"))
}

/// A field that is text or a number, escaped; nothing for any other.
fn text(value: &Value, field: &str) -> String {
    match value.get(field) {
        Some(Value::String(text)) => escape(text),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}
