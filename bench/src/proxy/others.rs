//! What nginx and haproxy are told to do the same.

use std::fmt::Write;
use std::path::Path;

use super::certificates::{Certificates, Identity, host};
use super::hop::{Hop, Requests, Terminate, Work};

/// nginx's configuration; `None` for what it cannot do as it comes from Debian.
pub(crate) fn nginx(hop: &Hop<'_>, folder: &Path) -> anyhow::Result<Option<String>> {
    let Work::Requests(requests @ Requests { http2: false, .. }) = hop.work else { return Ok(None) };
    if hop.originate.is_some() {
        return Ok(None);
    }
    let at = folder.display();
    let (log, locations) = (logging(requests, folder), locations(requests));
    let mut servers = String::new();
    let listen = hop.listen;
    match hop.terminate {
        None => write!(servers, "server {{ listen {listen} backlog=4096; {locations} }}")?,
        Some(Terminate::Mutual(_)) => return Ok(None),
        Some(Terminate::Hosts(hosts)) => {
            let verify = if hosts.mutual { verify(&hosts.certificates, folder)? } else { String::new() };
            for (n, identity) in hosts.identities.iter().enumerate() {
                let file = write_pem(identity, folder, n)?;
                writeln!(
                    servers,
                    "server {{ listen {listen} ssl; server_name {}; ssl_certificate {file}; ssl_certificate_key {file}; \
                     {verify} {locations} }}",
                    host(n)
                )?;
            }
        }
    }
    Ok(Some(format!(
        "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
         events {{ worker_connections 16000; }}\n\
         http {{\n client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; client_max_body_size 0;\n\
         server_names_hash_max_size 8192; keepalive_requests 1000000000; {log}\n\
         upstream out {{ server {}; keepalive 128; keepalive_requests 1000000000; }}\n{servers}\n}}\n",
        hop.endpoint
    )))
}

fn logging(requests: Requests, folder: &Path) -> String {
    if !requests.features {
        return "access_log off;".to_owned();
    }
    format!(
        "log_format bench '[$time_iso8601] \"$request\" $status $request_length $bytes_sent $request_time \
         $upstream_response_time \"$http_user_agent\" \"$request_id\" \"$http_host\" \"$upstream_addr\" $remote_addr';\n\
         access_log {}/access.log bench buffer=64k flush=1s;",
        folder.display()
    )
}

fn locations(requests: Requests) -> String {
    let policy = if requests.features { "limit_except GET POST { deny all; }" } else { "" };
    let pass = "proxy_pass http://out; proxy_http_version 1.1; proxy_set_header Connection ''; \
                proxy_set_header Host $http_host;";
    let location = |n| format!("location /service-{n}/ {{ {policy} {pass} }}\n");
    let denied = if requests.features { "location /admin { deny all; }" } else { "" };
    (0..requests.routes).map(location).chain([denied.to_owned()]).collect()
}

fn verify(certificates: &Certificates, folder: &Path) -> anyhow::Result<String> {
    let file = folder.join("ca.crt");
    std::fs::write(&file, &certificates.ca)?;
    Ok(format!("ssl_client_certificate {}; ssl_verify_client on;", file.display()))
}

/// A file with a certificate and its key; its path.
fn write_pem(identity: &Identity, folder: &Path, n: usize) -> anyhow::Result<String> {
    let pems = folder.join("pems");
    std::fs::create_dir_all(&pems)?;
    let file = pems.join(format!("{n}.pem"));
    std::fs::write(&file, format!("{}{}", identity.certificate, identity.key))?;
    Ok(file.display().to_string())
}

/// haproxy's configuration; `None` for what it cannot do alike: it writes no access log to a file.
pub(crate) fn haproxy(hop: &Hop<'_>, folder: &Path) -> anyhow::Result<Option<String>> {
    let mode = match hop.work {
        Work::Bytes => "tcp",
        Work::Requests(Requests { routes: 1, features: false, http2: false }) => "http",
        Work::Passthrough | Work::Requests(_) => return Ok(None),
    };
    if hop.originate.is_some() {
        return Ok(None);
    }
    let secured = match hop.terminate {
        None => String::new(),
        Some(Terminate::Mutual(certificates)) => {
            write_pem(&certificates.server, folder, 0)?;
            authenticated(certificates, folder)?
        }
        Some(Terminate::Hosts(hosts)) => {
            for (n, identity) in hosts.identities.iter().enumerate() {
                write_pem(identity, folder, n)?;
            }
            let verified = hosts.mutual.then(|| authenticated(&hosts.certificates, folder)).transpose()?;
            verified.unwrap_or_else(|| format!("ssl crt {}/pems", folder.display()))
        }
    };
    Ok(Some(format!(
        "global\n nbthread 1\n no strict-limits\n maxconn 12000\ndefaults\n mode {mode}\n timeout connect 5s\n timeout client 1h\n \
         timeout server 1h\nfrontend in\n bind {} {secured} backlog 4096\n default_backend out\nbackend out\n \
         server out {}\n",
        hop.listen, hop.endpoint
    )))
}

fn authenticated(certificates: &Certificates, folder: &Path) -> anyhow::Result<String> {
    let (ca, at) = (folder.join("ca.crt"), folder.display());
    std::fs::write(&ca, &certificates.ca)?;
    Ok(format!("ssl crt {at}/pems ca-file {} verify required", ca.display()))
}
