"""Encryption on the two ways to a relay (C18): terminals through nginx, and the relay's own way to PostgreSQL."""

from __future__ import annotations

import datetime
import os
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import websockets
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from psycopg.conninfo import make_conninfo

from relay import doctor, schema
from relay.errors import DatabaseUnavailable
from relay.settings import Settings
from tests.cluster import TestCluster, cluster_folder, free_port
from tests.nginx import Nginx, needs_nginx
from tests.relays import local_relay, relay_process
from tests.terminals import Terminal
from tests.waiting import wait_until

NAME, ELSEWHERE = "localhost", "db.example"
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
NO_TLS = "the embedded PostgreSQL is built without TLS, and Debian's is not installed (apt-get install postgresql-15)"


def certified(folder: Path) -> tuple[Path, Path]:
    """A certificate for NAME that is signed by itself, and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME), x509.DNSName(ELSEWHERE)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "server.crt", folder / "server.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    paths[1].write_bytes(pem)
    return paths


# --- terminals, through nginx


@needs_nginx
async def test_terminals_come_in_over_tls_by_the_lines_that_nginx_conf_has_for_it(
    database: str, tmp_path: Path
) -> None:
    certificate, key = certified(tmp_path)
    async with relay_process(database) as relay:
        nginx = Nginx([(relay.host, relay.port)], (certificate, key))
        try:
            terminal = Terminal(f"wss://{NAME}:{nginx.port}/ws")
            with pytest.raises(ssl.SSLCertVerificationError):
                await terminal.connect()
            async with await terminal.connect(ssl=ssl.create_default_context(cafile=certificate)):
                await terminal.table("add", {"id": "t1", "number": 1, "seats": 4, "status": "available"})
                await terminal.reaches(1)
            with pytest.raises(websockets.InvalidStatus, match="400"):
                await Terminal(f"ws://{NAME}:{nginx.port}/ws").connect()
        finally:
            nginx.stop()


# --- the relay, to PostgreSQL


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[TestCluster, Path]]:
    """A PostgreSQL that speaks TLS and nothing else over TCP, and the certificate to trust."""
    if not DEBIAN_15.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(NO_TLS)
        pytest.skip(NO_TLS)
    folder = cluster_folder()
    cluster = TestCluster(folder, bin_dir=DEBIAN_15, port=free_port())
    try:
        cluster.start()
        owner = cluster.data.stat()
        certificate, key = certified(cluster.data)
        for path in (certificate, key):
            os.chown(path, owner.st_uid, owner.st_gid)
            path.chmod(0o600)
        (cluster.data / "pg_hba.conf").write_text("local all all trust\nhostssl all all all trust\n")
        cluster.say("alter system set ssl = on")
        cluster.say("select pg_reload_conf()")
        trusted = tmp_path / "trusted.pem"
        trusted.write_bytes(certificate.read_bytes())
        cluster.create_database("shop")
        wait_until(lambda: cluster.say("show ssl") == "on")
        yield cluster, trusted
    finally:
        cluster.stop()
        shutil.rmtree(folder)


async def test_a_relay_reaches_postgresql_over_tls_and_only_the_right_one(
    encrypted: tuple[TestCluster, Path], tmp_path: Path
) -> None:
    cluster, trusted = encrypted
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    sure = make_conninfo(cluster.tcp("shop"), host=NAME, sslmode="verify-full", sslrootcert=str(trusted))
    for conninfo, complaint in (
        (make_conninfo(sure, sslrootcert=str(certified(wrong)[0])), "certificate verify failed"),
        (make_conninfo(sure, host="127.0.0.1"), "does not match host name"),
        (make_conninfo(sure, sslmode="disable", sslrootcert=""), "no encryption"),
    ):
        with pytest.raises(DatabaseUnavailable, match=complaint):
            await schema.apply(conninfo)
    await schema.apply(sure)
    async with local_relay(sure) as relay, Terminal(relay.url) as terminal:
        await terminal.table("add", {"id": "t1", "number": 1, "seats": 4, "status": "available"})
        with psycopg.connect(cluster.conninfo("shop")) as connection:
            rows = connection.execute(
                "select a.application_name, s.ssl from pg_stat_activity as a join pg_stat_ssl as s using (pid)"
                " where a.datname = 'shop' and a.pid <> pg_backend_pid() and a.backend_type = 'client backend'"
            ).fetchall()
    assert len({name for name, _ in rows}) > 1, "the listener and the pools"
    assert {encrypted for _, encrypted in rows} == {True}


async def test_the_doctor_says_who_could_read_along_on_the_way_to_the_database(
    encrypted: tuple[TestCluster, Path],
) -> None:
    cluster, trusted = encrypted
    await schema.apply(cluster.conninfo("shop"))
    elsewhere = make_conninfo(cluster.tcp("shop"), host=ELSEWHERE, hostaddr="127.0.0.1")

    async def found(conninfo: str) -> tuple[str, str]:
        settings = Settings(conninfo=conninfo, listen_conninfo=conninfo, database_named=True)
        [one] = [finding async for finding in doctor.examine(settings) if finding.name == "encryption"]
        assert (one.level == "ok") is (one.mend == "")
        return one.level, one.message

    assert await found(make_conninfo(elsewhere, sslmode="verify-full", sslrootcert=str(trusted))) == (
        "ok",
        "the way to db.example is encrypted, and its certificate is right",
    )
    level, message = await found(make_conninfo(elsewhere, sslmode="require"))
    assert (level, "nobody looks" in message) == ("advice", True)
    (cluster.data / "pg_hba.conf").write_text("local all all trust\nhost all all all trust\n")
    cluster.say("select pg_reload_conf()")
    level, message = await found(make_conninfo(elsewhere, sslmode="disable"))
    assert (level, "not encrypted" in message) == ("advice", True)
    assert (await found(cluster.conninfo("shop")))[0] == "ok"
