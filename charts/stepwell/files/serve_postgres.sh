# Serve the database in PGDATA, after making it if there is none; its administrator's password is the one in PASSWORD_FILE.
set -eu
umask 077
password=$(cat "$PASSWORD_FILE")
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # Made beside its place and then moved: what was begun and not finished is never taken for a database.
  rm -rf "$PGDATA.new"
  initdb --pgdata="$PGDATA.new" --username=postgres --encoding=UTF8 --no-locale --auth-local=reject --auth-host=scram-sha-256 > /dev/null
  echo 'host all all all scram-sha-256' >> "$PGDATA.new/pg_hba.conf"
  mv "$PGDATA.new" "$PGDATA"
fi
# At every start, so that a Secret which was made anew holds from then on. A failing statement isn't logged: the password is in it.
printf "alter role postgres login password '%s'\n" "$password" |
  postgres --single -D "$PGDATA" -c log_min_error_statement=panic -c unix_socket_directories=/tmp postgres > /dev/null
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp -c max_connections=300
