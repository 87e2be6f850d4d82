//! The two ways httpbin is started: our own, and the one that manifests use, gunicorn's.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::Failure;

const USAGE: &str = "usage: httpbin [--port PORT]\n       httpbin --gunicorn [-b HOST:PORT] [GUNICORN-ARGUMENT…]";
const DEFAULT_PORT: u16 = 8080;
/// Where gunicorn listens unless it is told.
const GUNICORN_PORT: u16 = 8000;

/// Options of gunicorn that take a value and have no meaning here.
const IGNORED_WITH_VALUE: &[&str] = &[
    "-k",
    "--worker-class",
    "-w",
    "--workers",
    "--threads",
    "-t",
    "--timeout",
    "--keep-alive",
    "--access-logfile",
    "--error-logfile",
    "--log-level",
    "--log-file",
    "--worker-connections",
    "--capture-output",
];

/// The address to listen on.
pub(crate) fn parse(args: &[String]) -> Result<SocketAddr, Failure> {
    let mut args = args.iter().map(String::as_str);
    let mut address = everywhere(DEFAULT_PORT);
    while let Some(argument) = args.next() {
        match argument.split_once('=').unwrap_or((argument, "")) {
            ("--gunicorn", "") => return gunicorn(args),
            ("--port", "") => address = everywhere(port(args.next().unwrap_or_default())?),
            ("--port", value) => address = everywhere(port(value)?),
            _ => return Err(Failure::Usage(format!("unknown argument {argument:?}\n{USAGE}"))),
        }
    }
    Ok(address)
}

fn gunicorn<'a>(mut args: impl Iterator<Item = &'a str>) -> Result<SocketAddr, Failure> {
    let mut address = everywhere(GUNICORN_PORT);
    while let Some(argument) = args.next() {
        match argument.split_once('=').unwrap_or((argument, "")) {
            ("-b" | "--bind", "") => address = bind(args.next().unwrap_or_default())?,
            ("-b" | "--bind", value) => address = bind(value)?,
            (option, "") if IGNORED_WITH_VALUE.contains(&option) => drop(args.next()),
            (option, _) if IGNORED_WITH_VALUE.contains(&option) || !option.starts_with('-') => {}
            _ => return Err(Failure::Usage(format!("gunicorn's argument {argument:?} is not known\n{USAGE}"))),
        }
    }
    Ok(address)
}

/// `HOST:PORT`, `[IPV6]:PORT`, `:PORT` or `PORT`.
fn bind(text: &str) -> Result<SocketAddr, Failure> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    match text.rsplit_once(':') {
        Some(("" | "*" | "localhost", number)) => Ok(everywhere(port(number)?)),
        None => Ok(everywhere(port(text)?)),
        Some(_) => Err(Failure::Usage(format!("{text:?} is not an address to bind\n{USAGE}"))),
    }
}

fn port(text: &str) -> Result<u16, Failure> {
    text.parse().map_err(|_| Failure::Usage(format!("{text:?} is not a port\n{USAGE}")))
}

fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<String, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&args).map(|address| address.to_string()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_port_is_chosen_by_option() {
        assert_eq!(parsed("").unwrap(), "[::]:8080");
        assert_eq!(parsed("--port 80").unwrap(), "[::]:80");
        assert_eq!(parsed("--port=80").unwrap(), "[::]:80");
        assert!(parsed("--port http").unwrap_err().contains("\"http\" is not a port"));
        assert!(parsed("--prot 80").unwrap_err().contains("--prot"));
    }

    #[test]
    fn gunicorns_command_line_is_understood() {
        assert_eq!(parsed("--gunicorn -b 0.0.0.0:80 httpbin:app -k gevent").unwrap(), "0.0.0.0:80");
        assert_eq!(parsed("--gunicorn --access-logfile - -b [::]:8080 httpbin:app").unwrap(), "[::]:8080");
        assert_eq!(parsed("--gunicorn httpbin:app --bind=:81 --workers=2").unwrap(), "[::]:81");
        assert_eq!(parsed("--gunicorn httpbin:app").unwrap(), "[::]:8000");
        assert!(parsed("--gunicorn --reload").unwrap_err().contains("--reload"));
        assert!(parsed("--gunicorn -b nowhere:x").unwrap_err().contains("nowhere:x"));
    }
}
