# Answers one HTTP request of a cloud's metadata service: request on standard input, answer on
# standard output. $1 is the folder with the answers; a folder's own answer is its file `index`.
folder=$1
read -r method path version || exit 0
return=$(printf '\r')
while read -r header && [ "$header" != "$return" ] && [ -n "$header" ]; do :; done
printf '%s %s\n' "$method" "$path" >> "$folder/requests"

answer() {
    printf 'HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %s\r\nConnection: close\r\n\r\n' "$1" "$2"
}

file=${path%%\?*}
file=${file%/}
# Every version of the service has the same answers.
case $file in
/latest/api/token) answer '200 OK' 5 && printf 'token' && exit ;;
/[0-9l]*/*) file=/${file#/*/} ;;
*) file=/none ;;
esac
case $file in
*..*) file=/none ;;
esac
if [ -d "$folder$file" ]; then file=$file/index; fi
if [ -f "$folder$file" ] && [ "$method" = GET ]; then
    answer '200 OK' "$(wc -c < "$folder$file")"
    cat "$folder$file"
else
    answer '404 Not Found' 0
fi
